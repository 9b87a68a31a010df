import pytest

from mtmsa_lightning._utils import progress as module
from mtmsa_lightning._utils.progress import progress


def test_lines_tell_number_rate_and_time_left(monkeypatch, caplog):
    """Off a terminal: a line every ten seconds, and one at the end."""
    caplog.set_level("INFO", "mtmsa_lightning")
    clock = iter([100.0, 104.0, 110.0, 115.0])
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    with progress("faces", 1200, done=200) as advance:
        advance(100)  # after 4 seconds: silent
        advance(400)  # after 10
        advance(500)
    assert [record.getMessage() for record in caplog.records] == [
        "700 of 1,200 faces (50/s, 10 s left)",
        "1,200 of 1,200 faces (67/s, 0 s left)",
    ]


def test_a_bar_on_a_terminal(monkeypatch, capsys):
    for name, value in {"FORCE_COLOR": "1", "COLUMNS": "120", "TERM": "xterm"}.items():
        monkeypatch.setenv(name, value)
    with progress("faces", 20, done=5) as advance:
        advance(15)
    printed = capsys.readouterr().out
    assert "20/20" in printed
    assert "/s" in printed


@pytest.mark.parametrize("done", [0, 3])
def test_nothing_to_do(done, caplog):
    with progress("faces", done, done):
        pass
    assert not caplog.records


def test_nothing_done_in_the_first_seconds_is_no_division_by_zero(caplog, monkeypatch):
    caplog.set_level("INFO", "mtmsa_lightning")
    monkeypatch.setattr(module, "SECONDS_BETWEEN_LINES", 0)
    module._Lines("faces", 10, 4)(0)
    assert "4 of 10 faces" in caplog.text
