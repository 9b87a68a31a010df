import pytest
from seen_html import HOSTILE

from mtmsa_lightning.reports.markdown import one_line, render, table


def test_a_cell_cannot_end_its_row():
    assert table(["a|b", "c"], [["1\n2", 3]]).splitlines() == ["| a/b | c |", "| --- | --- |", "| 1 2 | 3 |"]
    assert one_line("a\n## b") == "a ## b"


@pytest.mark.parametrize(
    ("template", "values"),
    [
        (
            "comparison.md",
            {
                "baseline": HOSTILE, "sides": [HOSTILE], "runs": {HOSTILE: [[HOSTILE]]}, "heads": [HOSTILE],
                "method": HOSTILE,
            },
        ),
        (
            "study.md",
            {
                "t": {
                    "title": HOSTILE, "baseline": HOSTILE, "not_run": [HOSTILE],
                    "variants": {HOSTILE: {"missing": [1], "not_compared": HOSTILE}},
                    "recorded": {"only_recorded": [HOSTILE], "conditions": [HOSTILE]},
                },
                "quoted": HOSTILE, "compared": 1, "percent": "5", "metrics_table": "", "recorded_table": "",
            },
        ),
        (
            "folds.md",
            {
                "s": {
                    "name": HOSTILE, "dataset": HOSTILE, "protocol": HOSTILE, "split_seed": 0,
                    "label_rule": HOSTILE, "folds": [0], "folds_of_protocol": [0], "seeds": [0],
                    "subjects_in_two_parts": 0.5, "notes": [HOSTILE], "gender_classes": [HOSTILE],
                    "missing": [{"fold": 0, "seed": 0, "reason": HOSTILE}], "race_classes": [],
                    "pooled": {"faces": 1, "bootstrap_draws": 1, "subjects": 1, "tested_more_than_once": 0},
                    "image_size": 64, "crop": 1.0, "versions": [{HOSTILE: "1"}], "git_commit": [],
                    "device": [HOSTILE], "precision": [HOSTILE],
                },
                "metrics_table": "", "runs_table": "",
            },
        ),
    ],
)  # fmt: skip
def test_template_syntax_in_a_name_stays_a_text(template, values):
    text = render(template, **values)
    assert HOSTILE in text
    assert "49" not in text
    assert text[-2] != "\n" == text[-1]
