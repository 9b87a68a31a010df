import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mtmsa_lightning.app.result import FORMATS, MOST_FACES, NO_FACE, faces_found, predict_photo
from mtmsa_lightning.calibration.calibration import Calibration
from mtmsa_lightning.calibration.policy import AgePolicy
from mtmsa_lightning.inference.estimator import AgeEstimator

NewEstimator = Callable[..., AgeEstimator]


def test_a_face_gets_the_metrics_of_the_estimator(estimator: AgeEstimator, photos: Path) -> None:
    (face,) = estimator(photos / "one.jpg", detect=True)
    html = predict_photo(estimator, (photos / "one.jpg").read_bytes(), "one.jpg")
    low, high = face.age.interval(0.9)
    assert "1 face was found." in html
    assert f"<strong>{face.age.mean:.1f} years</strong>" in html
    assert f"90 % interval, calibrated: {max(low, 0):.0f} to {high:.0f} years" in html
    for said in (face.gender, face.race):
        for name, probability in said.probabilities.items():
            row = html.partition(f'<th scope="row">{name}</th>')[2]
            assert f'style="width:{100 * probability:.1f}%"' in row.partition("</tr>")[0]
    assert "Unsure:</strong> its 90 % interval is wider than 1 year" in html


def test_every_stage_shows_its_attention_and_the_rate_that_mattered_most(
    estimator: AgeEstimator, portrait: np.ndarray
) -> None:
    faces = estimator(portrait, detect=True)
    html = faces_found(estimator, portrait, faces)
    (attention,) = estimator.attention(faces)
    for stage in (1, 2):
        assert f"Attention after stage {stage} on face 1" in html
        table = html.partition(f"Dilation rates, stage {stage}")[2].partition("</table>")[0]
        shares = dict(attention.rates[stage])
        assert re.findall(r"rate (\d)</th>", table) == ["1", "2"]
        (most,) = re.findall(r'class="most"><th scope="row">rate (\d)', table)
        assert shares[int(most)] == max(shares.values())


def test_a_network_without_attention_shows_none(estimator_of: NewEstimator, portrait: np.ndarray) -> None:
    estimator = estimator_of(msa=None)
    html = faces_found(estimator, portrait, estimator(portrait, detect=True))
    assert "Face 1" in html
    assert 'class="attention"' not in html
    assert 'class="rates"' not in html


@pytest.mark.parametrize(
    ("settings", "there", "absent"),
    [
        ({}, ["90 % interval, not calibrated", "Gender", "Race"], ["Unsure", "Age group"]),
        ({"age": None}, ["Gender", "Race"], ["years", "interval"]),
        ({"gender": None, "race_classes": ()}, ["years"], ["Gender", "Race"]),
        ({"age_groups": ((0, 2), (4, 6), (8, 12), (15, 20), (25, 32), (38, 43), (48, 53), (60, 100))},
         ["Age group", "25 to 32 years"], []),
        ({"calibration": Calibration(quantiles={0.9: float("inf")})},
         ["90 % interval: unknown, the checkpoint was calibrated on too few faces"], ["to inf", "Unsure"]),
        ({"calibration": Calibration(temperatures={"race": 2.0})}, ["90 % interval, not calibrated"], []),
        ({"calibration": Calibration(policies=(AgePolicy(18), AgePolicy(99, no_below=99.0)))},
         ["18 or older: <strong>unsure</strong>; 99 or older: <strong>no</strong>"], []),
        ({"calibration": Calibration(max_width=0.5, min_group_prob=0.4)},
         ["its 90 % interval is wider than 0.5 years or its likeliest age group has less than 40 %"], []),
    ],
)  # fmt: skip
def test_what_the_checkpoint_does_not_know_is_not_shown(
    estimator_of: NewEstimator, portrait: np.ndarray, settings: dict, there: list[str], absent: list[str]
) -> None:
    estimator = estimator_of(**settings)
    html = faces_found(estimator, portrait, estimator(portrait, detect=True))
    text = re.sub(r'aria-label="[^"]*"|base64,[^"]*', "", html)
    for says in there:
        assert says in text
    for says in absent:
        assert says not in text


def test_twenty_faces_get_twenty_cards_in_the_order_of_their_boxes(
    estimator: AgeEstimator, photos: Path
) -> None:
    html = predict_photo(estimator, (photos / "twenty.png").read_bytes(), "twenty.png")
    assert "20 faces were found, numbered from the largest." in html
    numbers = [str(number) for number in range(1, 21)]
    assert re.findall(r'<article class="face" id="face-(\d+)"', html) == numbers
    assert re.findall(r'<a href="#face-(\d+)"', html) == numbers


def test_of_a_crowd_the_largest_faces_are_shown(estimator: AgeEstimator, portrait: np.ndarray) -> None:
    (face,) = estimator(portrait, detect=True)
    html = faces_found(estimator, portrait, [face] * (MOST_FACES + 3))
    assert "63 faces were found, numbered from the largest; the largest 60 are shown." in html
    assert html.count("<article") == MOST_FACES


def test_a_photo_without_a_face_is_shown_and_said_to_have_none(estimator: AgeEstimator, photos: Path) -> None:
    html = predict_photo(estimator, (photos / "none.png").read_bytes(), "none.png")
    assert NO_FACE in html
    assert "data:image/jpeg" in html
    assert "<article" not in html


@pytest.mark.parametrize(("name", "shown"), [("<my> notes.jpg", "&lt;my&gt; notes.jpg"), ("", "photo")])
def test_what_is_no_image_is_refused_by_its_name(estimator: AgeEstimator, name: str, shown: str) -> None:
    html = predict_photo(estimator, b"no image", name)
    assert 'role="alert"' in html
    assert f"{shown}: not an image that can be decoded" in html
    assert FORMATS in html


def test_a_photo_with_too_many_pixels_is_refused_before_it_is_decoded(
    estimator: AgeEstimator, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimator, "max_pixels", 1000)
    monkeypatch.setattr("cv2.imdecode", lambda *_: pytest.fail("it was decoded"))
    html = predict_photo(estimator, (photos / "one.jpg").read_bytes(), "one.jpg")
    assert "one.jpg: too large: 512 x 512" in html
