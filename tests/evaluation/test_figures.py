import json

import pytest

from mtmsa_lightning.evaluation.figures import figures
from mtmsa_lightning.evaluation.predictions import read_predictions


def test_the_figures_of_a_runs_predictions_are_those_that_the_run_logged(trained):
    logged = json.loads((trained / "run.json").read_text(), parse_constant=pytest.fail)["test"]
    losses = {name for name in logged if name.endswith("loss")}
    found = figures(read_predictions(trained / "predictions" / "test.parquet"))["scalars"]
    defined = {f"test/{name}": value for name, value in found.items() if value is not None}
    assert defined.keys() == logged.keys() - losses
    for name, value in defined.items():
        assert value == pytest.approx(logged[name], abs=1e-6), name
    assert found["age_worst_decade_mae"] is None, "no decade has 50 of these few faces"
