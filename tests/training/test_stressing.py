"""``mtmsa evaluate --stress``."""

import pandas as pd
import pytest

from mtmsa_lightning.cli.main import main


def test_the_report_has_changed_photos(trained, undrawn, tmp_path, fails):
    out = tmp_path / "report"
    main(["evaluate", "--ckpt_path", str(trained), "--out", str(out), "--stress", "grey", "glasses"])
    table = pd.read_csv(out / "tables" / "stress.csv")
    assert table[["by", "stress", "severity", "faces"]].to_numpy().tolist() == [["all", "grey", 1, 15]]
    clean = pd.read_csv(out / "predictions.csv")
    error = (clean["age_mean_unclipped"] - clean["label_age_low"]).abs().mean()
    assert table["mae"][0] - table["mae_change"][0] == pytest.approx(error, abs=1e-3)
    page = (out / "report.html").read_text()
    for said in (
        "Robustness to changed photos",
        "Left out: glasses",
        "One face with every change",
        "cross 18",
    ):
        assert said in page

    assert "invalid choice: 'fog'" in fails("evaluate", "--ckpt_path", trained, "--stress", "fog")
    assert "needs --ckpt_path" in fails("evaluate", "--predictions", out / "predictions.csv", "--stress")
