import json
import re

import pytest
from seen_html import Seen

from mtmsa_lightning.cli.commands.audit import parser
from mtmsa_lightning.cli.main import main
from mtmsa_lightning.data.audit.findings import KINDS


def audit(*args):
    """Return the exit status of ``mtmsa audit``."""
    try:
        main(["audit", *map(str, args)])
    except SystemExit as stopped:
        return stopped.code
    return 0


@pytest.fixture(scope="module")
def dirty(dirty_release, tmp_path_factory):
    out = tmp_path_factory.mktemp("audit")
    assert audit("--root", dirty_release, "--data.protocol", "predefined", "--out", out) == 1
    return out


def page_of(out):
    return (out / "audit.html").read_text()


def record_of(out):
    return json.loads((out / "audit.json").read_text(), parse_constant=pytest.fail)


def test_a_clean_release_passes(clean_release, tmp_path, capsys):
    assert (
        audit("--data", "csv", "--root", clean_release, "--data.protocol", "predefined", "--out", tmp_path)
        == 0
    )
    said = capsys.readouterr().out
    assert "csv: 12 faces; 0 errors, 0 warnings, 0 notes" in said
    assert str(tmp_path / "audit.html") in said
    record = record_of(tmp_path)
    assert record["findings"] == []
    assert record["counts"]["gender"]["male"]["all"] == 6
    assert record["split"]["faces"] == {"train": 8, "val": 2, "test": 2, "calibration": 0}
    assert record["baselines"]["test"]["age_mae_of_mean"] == pytest.approx(7.0)  # 30 and 31 against 23.5


def test_the_json_holds_every_finding_and_no_nan(dirty):
    record = record_of(dirty)
    assert record["severities"]["error"] == 4
    assert {finding["kind"]: finding["severity"] for finding in record["findings"]} == {
        finding["kind"]: KINDS[finding["kind"]].severity for finding in record["findings"]
    }
    assert record["split"]["subjects_in_two_parts"] > 0
    assert len(record["split"]["fingerprints"]["test"]) == 64
    assert record["thresholds"] == {"near": 31, "min_side": 64, "min_sharpness": 10.0}


def test_the_page_is_whole_and_needs_no_network(dirty):
    page = page_of(dirty)
    seen = Seen(page)
    assert seen.open == []
    assert not [tag for tag, _ in seen.tags if tag in ("script", "link", "iframe")]
    assert all(attributes["src"].startswith("data:image/") for tag, attributes in seen.tags if tag == "img")
    assert not re.search(r"https?://", page)
    texts = " ".join(seen.texts)
    for kind in record_of(dirty)["findings"]:
        assert kind["text"] in texts
    assert all(name in texts for name in KINDS), "the table of severities names all kinds"
    assert "at most 31 of 256 bits" in texts


def test_pictures_can_be_skipped(dirty, dirty_release, tmp_path):
    options = ["--root", dirty_release, "--data.protocol", "predefined", "--out", tmp_path]
    assert audit(*options, "--faces=false") == 1
    assert "data:image/jpeg" in page_of(dirty)
    assert "data:image/jpeg" not in page_of(tmp_path)
    assert "data:image/svg+xml" in page_of(tmp_path), "the counts are no faces"


def test_only_the_errors_decide_the_status(dirty_release, tmp_path):
    rest = ["--out", tmp_path, "--read_images=false"]
    assert audit("--root", dirty_release, *rest) == 0, "random folds may share subjects: a warning"
    assert audit("--root", dirty_release, "--data.protocol", "predefined", *rest) == 1
    assert record_of(tmp_path)["images"] is None


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--root", "nowhere"], "no such folder"),
        (["--data", "csv", "--root", "nowhere"], "no faces.csv"),
        (["--data", "morph", "--root", ".", "--data.protocol", "x"], "not supported by morph"),
        ([], "name a dataset"),
    ],
)
def test_mistakes_have_status_2(fails, tmp_path, monkeypatch, args, said):
    monkeypatch.chdir(tmp_path)
    assert said in fails("audit", *args, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_is_told_before_any_image_is_read(dirty_release, tmp_path, fails):
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / "audit"
    assert f"{out}: nothing can be written there" in fails("audit", "--root", dirty_release, "--out", out)


def test_a_config_gives_the_data(tiny_config, tmp_path):
    assert audit("--config", tiny_config, "--out", tmp_path) == 0
    record = record_of(tmp_path)
    assert (record["dataset"], record["protocol"]) == ("synthetic-morph", "subject_exclusive")
    assert {finding["kind"] for finding in record["findings"]} == {"birth-date", "race"}


def test_the_help_lists_the_severities():
    assert all(f"{kind.severity:<9}{name}" in parser().format_help() for name, kind in KINDS.items())
