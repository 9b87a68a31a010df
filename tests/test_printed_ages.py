"""No age or end of an interval that a reader sees lies below 0, wherever it is printed."""

import re

import numpy as np
import pandas as pd
import pytest
import torch

from mtmsa_lightning import MTMSA, AgeEstimator
from mtmsa_lightning.app.result import faces_found
from mtmsa_lightning.calibration.calibration import Calibration
from mtmsa_lightning.evaluation.prediction_columns import prediction_columns, to_arrays
from mtmsa_lightning.evaluation.predictions import read_predictions
from mtmsa_lightning.evaluation.shown_faces import faces_to_look_at
from mtmsa_lightning.export.network import named_outputs
from mtmsa_lightning.inference.annotated_images import caption
from mtmsa_lightning.metrics import AgeMAE

FITTED_ON = {
    "part": "calibration", "dataset": "morph", "protocol": "random", "fold": 0, "faces": 9, "subjects": 9,
    "unit": "subjects", "chose_checkpoint": False,
}  # fmt: skip


@pytest.fixture(params=["bare", "calibrated"])
def infants(request) -> MTMSA:
    """A network that takes every face for one of about -2 years."""
    torch.manual_seed(0)
    model = MTMSA(msa=None, image_size=64)
    model.age.set_age_statistics(-2.0, 0.01)
    if request.param == "calibrated":
        model.calibration = Calibration(quantiles={0.5: 1.0, 0.9: 2.0}, fitted_on=FITTED_ON)
    return model.eval()


@pytest.fixture
def photos() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)


@torch.no_grad()
def test_no_age_below_0_is_printed_and_metrics_use_it_as_it_is(infants, photos):
    images = torch.from_numpy(photos).permute(0, 3, 1, 2)
    output = infants.calibrated(infants(images))
    raw = output.age.mean.numpy()
    assert (raw < -1).all()

    exported = {name: values for name, values in named_outputs(infants, images).items() if "age" in name}
    assert all((values >= 0).all() for values in exported.values())

    table = to_arrays([prediction_columns(infants, output)])
    shown = {name for name in table if re.fullmatch(r"age_(mean|(low|high)\d+)", name)}
    assert {"age_mean", "age_low90", "age_high90"} <= shown
    assert all((table[name] >= 0).all() for name in shown)
    assert caption({name: values[0] for name, values in table.items()})[0] == "0 (0 to 0)"

    labels = {"id": list("abc"), "label_age_low": [0.0, 1.0, 2.0], "label_age_high": [0.0, 1.0, 2.0]}
    predictions = read_predictions(pd.DataFrame(labels | table))
    np.testing.assert_array_equal(predictions.age.mean, raw)
    mae = AgeMAE()
    mae.update(predictions.age, predictions.age_low, predictions.age_high)
    assert mae.compute().item() == pytest.approx(np.abs(raw - [0, 1, 2]).mean())
    for rows in faces_to_look_at(predictions).values():
        assert (rows[["prediction", "low90", "high90"]] >= 0).all(axis=None)

    estimator = AgeEstimator(infants, device="cpu")
    faces = estimator([*photos], detect=False)
    for (face,) in faces:
        assert face.age.mean == face.age.interval()[0] == face.age.interval(0.5)[0] == 0
        assert str(face.age) == "0.0 years (90 %: 0 to 0)"
        assert face.age.distribution.mean < -1
    page = faces_found(estimator, photos[0], faces[0])
    assert "<strong>0.0 years</strong>" in page
    assert "0 to 0 years" in page
    assert not re.search(r"-\d+(\.\d+)? (years|to)", page)
