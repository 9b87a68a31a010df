import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mtmsa_lightning.align.detector import DetectedFace
from mtmsa_lightning.app.answer import FORMATS, MOST_FACES, NO_FACE, answer, faces_found
from mtmsa_lightning.app.page import GONE, answer_upload
from mtmsa_lightning.inference.estimator import AgeEstimator
from mtmsa_lightning.models.calibration import Calibration

NewEstimator = Callable[..., AgeEstimator]


@pytest.fixture
def upload(photos: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Put a copy of a file where Gradio puts uploads: in a folder of its own."""

    def copy(name: str) -> Path:
        file = tmp_path / "uploads" / name.replace(".", "-") / name
        file.parent.mkdir(parents=True)
        file.write_bytes((photos / name).read_bytes())
        return file

    return copy


def test_a_face_gets_the_figures_of_the_estimator(
    estimator: AgeEstimator, upload: Callable[[str], Path], portrait: np.ndarray
) -> None:
    file = upload("one.jpg")
    (face,) = estimator(file, detect=True)
    html = answer(estimator, file)
    low, high = face.age.interval(0.9)
    assert "1 face was found." in html
    assert f"<strong>{face.age.mean:.1f} years</strong>" in html
    assert f"90 % interval, calibrated: {max(low, 0):.0f} to {high:.0f} years" in html
    for said in (face.gender, face.race):
        for name, probability in said.probabilities.items():
            row = html.partition(f'<th scope="row">{name}</th>')[2]
            assert f'style="width:{100 * probability:.1f}%"' in row.partition("</tr>")[0]
    assert "Unsure:</strong> its 90 % interval is wider than 1 years" in html
    assert not file.parent.exists()


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
    estimator: AgeEstimator, upload: Callable[[str], Path]
) -> None:
    html = answer(estimator, upload("twenty.png"))
    assert "20 faces were found, numbered from the largest." in html
    numbers = [str(number) for number in range(1, 21)]
    assert re.findall(r'<article class="face" id="face-(\d+)"', html) == numbers
    assert re.findall(r'<a href="#face-(\d+)"', html) == numbers


def test_of_a_crowd_the_largest_faces_are_shown(estimator: AgeEstimator, portrait: np.ndarray) -> None:
    (face,) = estimator(portrait, detect=True)
    html = faces_found(estimator, portrait, [face] * (MOST_FACES + 3))
    assert "63 faces were found, numbered from the largest; the largest 60 are shown." in html
    assert html.count("<article") == MOST_FACES


def test_a_photo_without_a_face_is_shown_and_said_to_have_none(
    estimator: AgeEstimator, upload: Callable[[str], Path]
) -> None:
    html = answer(estimator, upload("none.png"))
    assert NO_FACE in html
    assert "data:image/jpeg" in html
    assert "<article" not in html


def test_what_is_no_image_is_refused_by_its_name_and_deleted(
    estimator: AgeEstimator, upload: Callable[[str], Path]
) -> None:
    file = upload("text.jpg")
    html = answer(estimator, file, "<my> notes.jpg")
    assert 'role="alert"' in html
    assert "&lt;my&gt; notes.jpg: cannot be read" in html
    assert FORMATS in html
    assert str(file) not in html  # the folder is nobody's business
    assert not file.parent.exists()


def test_a_photo_with_too_many_pixels_is_refused_before_it_is_decoded(
    estimator: AgeEstimator, upload: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimator, "max_pixels", 1000)
    monkeypatch.setattr("mtmsa_lightning.inference.photos.read_image", pytest.fail)
    file = upload("one.jpg")
    assert "one.jpg: too large: 512 x 512" in answer(estimator, file)
    assert not file.exists()


def test_a_photo_is_deleted_whatever_happens(
    estimator_of: NewEstimator, upload: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(image: np.ndarray) -> list[DetectedFace]:
        raise RuntimeError("out of memory")

    estimator = estimator_of()
    monkeypatch.setattr(estimator, "_detector", broken)
    file = upload("one.jpg")
    with pytest.raises(RuntimeError, match="out of memory"):
        answer(estimator, file)
    assert not file.parent.exists()


def test_two_uploads_of_one_photo_do_not_hinder_each_other(
    estimator: AgeEstimator, upload: Callable[[str], Path]
) -> None:
    file = upload("none.png")
    other = file.with_name("other.png")
    other.write_bytes(file.read_bytes())
    answer(estimator, file)
    assert other.exists()
    assert NO_FACE in answer_upload(estimator, {"path": str(other), "orig_name": "other.png"})
    assert GONE in answer_upload(estimator, {"path": str(other), "orig_name": "other.png"})
