"""Rival age heads through the command line: trained, tested, and read back from the predictions."""

import numpy as np
import pandas as pd
import pytest

from mtmsa_lightning.cli.main import main
from mtmsa_lightning.evaluation.predictions import read_predictions
from mtmsa_lightning.models.distributions import CategoricalAge, LaplaceAge
from mtmsa_lightning.runs.run_json import read_record


@pytest.mark.slow
@pytest.mark.parametrize(("head", "kind", "columns"), [("coral", CategoricalAge, 117), ("l1", LaplaceAge, 1)])
def test_a_rival_head_trains_tests_and_predicts_like_the_papers(head, kind, columns, tiny_config, tmp_path):
    root = ["--trainer.default_root_dir", str(tmp_path)]
    main(
        [
            "fit",
            "--config",
            str(tiny_config),
            "--config",
            f"heads/{head}.yaml",
            "--trainer.max_epochs",
            "1",
            *root,
        ]
    )
    (run,) = (tmp_path / "tiny").iterdir()
    file = run / "predictions" / "test.parquet"
    table = pd.read_parquet(file)
    assert sum(name.startswith(("age_p_", "age_laplace_scale")) for name in table) == columns

    read = read_predictions(file)
    assert isinstance(read.age.base, kind), "with the intervals of the table"
    metrics = read_record(run)["test"]
    error = np.abs(table["age_mean_unclipped"] - table["label_age_low"])
    assert metrics["test/age_mae"] == pytest.approx(error.mean(), abs=1e-6)
    assert metrics["test/age_nll"] == pytest.approx(-read.age.log_prob(read.age_low).mean().item(), abs=1e-5)
    assert metrics["test/age_crps"] == pytest.approx(read.age.crps(read.age_low).mean().item(), abs=1e-5)
    np.testing.assert_allclose(read.age.interval(0.9)[1], table["age_high90_unclipped"], atol=1e-6)

    main(["test", "--ckpt_path", str(run), *root, "--name", "again"])
    (again,) = (tmp_path / "again").iterdir()
    assert read_record(again)["test"]["test/age_nll"] == pytest.approx(metrics["test/age_nll"], abs=1e-5)
