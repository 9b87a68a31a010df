"""From an uploaded photo to the answer of the page: one piece of HTML with all pictures inside."""

from collections.abc import Sequence
from html import escape

from mtmsa_lightning._utils.images import Image, UnreadableImageError
from mtmsa_lightning._utils.text import pluralize
from mtmsa_lightning.app.drawing import (
    LEVEL,
    age_curve,
    bars,
    embedded,
    gates_over,
    photo_with_boxes,
)
from mtmsa_lightning.inference.estimator import AgeEstimator
from mtmsa_lightning.inference.faces import Age, Face, FaceAttention
from mtmsa_lightning.inference.photos import read_photo
from mtmsa_lightning.reports.plots import gate_scale, largest_gate

MOST_FACES = 60
"""Faces of one photo that are shown, the largest."""

NO_FACE = (
    "No face was found in this photo. Faces that are larger, upright and seen from the front are found best."
)

FORMATS = "Photos are image files such as JPEG, PNG or WebP."


def answer(estimator: AgeEstimator, upload: bytes, name: str) -> str:
    """Say what is known of the faces in a photo.

    Args:
        estimator: What to ask.
        upload: Content of an image file.
        name: The name that the user knows it by.

    Returns:
        HTML: the photo with a card for each face, or why there is none.
    """
    try:
        photo = read_photo(upload, estimator.max_pixels, name or "photo")
        faces = estimator(photo, detect=True)
        return faces_found(estimator, photo, faces) if faces else no_face(photo)
    except UnreadableImageError as error:
        return refusal(f"{error}. {FORMATS}")


def refusal(why: str) -> str:
    """Say why a photo is not looked at."""
    return f'<p class="refusal" role="alert">{escape(why)}</p>'


def no_face(photo: Image) -> str:
    """Show a photo on which there is no face."""
    return f'<p class="refusal" role="alert">{escape(NO_FACE)}</p>{photo_with_boxes(photo, [])}'


def faces_found(estimator: AgeEstimator, photo: Image, faces: Sequence[Face]) -> str:
    """Show a photo with its faces and a card for each.

    Args:
        estimator: What the faces come from.
        photo: RGB, uint8, shape (height, width, 3).
        faces: Its faces, at least one, the largest first.
    """
    found, faces = len(faces), faces[:MOST_FACES]
    says = f"{pluralize(found, 'face')} {'was' if found == 1 else 'were'} found"
    if found > 1:
        says += ", numbered from the largest"
    if found > len(faces):
        says += f"; the largest {len(faces)} are shown"
    attention = estimator.attention(faces)
    scale = gate_scale(gates for each in attention for gates in each.maps.values())
    cards = "".join(
        _card(estimator, face, number, each, scale)
        for number, (face, each) in enumerate(zip(faces, attention, strict=True), start=1)
    )
    return f'<p role="status">{says}.</p>{photo_with_boxes(photo, faces)}<div class="faces">{cards}</div>'


def _card(estimator: AgeEstimator, face: Face, number: int, attention: FaceAttention, scale: float) -> str:
    size = face.crop.image.shape[0]
    seen = f"Face {number} as the network sees it, {size} x {size} pixels"
    parts = [
        f'<h3>Face {number}</h3><img class="seen" src="{embedded(face.crop.image)}" alt="{seen}">',
        _unsure(estimator) if face.unsure else "",
        _age(estimator, face.age_or_none) if face.age_or_none is not None else "",
        bars("Gender", face.gender.probabilities) if face.gender is not None else "",
        bars("Race", face.race.probabilities) if face.race is not None else "",
        _attention(face, number, attention, scale),
        _rates(attention),
    ]
    return f'<article class="face" id="face-{number}">{"".join(parts)}</article>'


def _age(estimator: AgeEstimator, age: Age) -> str:
    low, high = age.interval(LEVEL)
    name = f"{100 * LEVEL:.0f} % interval"
    kind = "calibrated" if interval_is_calibrated(estimator) else "not calibrated"
    if high == float("inf"):
        held = f"{name}: unknown, the checkpoint was calibrated on too few faces for it"
    else:
        held = f"{name}, {kind}: {low:z.0f} to {high:z.0f} years"
    says = f"{age.mean:z.1f} years; {held}"
    curve = age_curve(age, f"Age as a curve: {says}")
    groups = {f"{first} to {last} years": share for (first, last), share in age.groups.items()}
    return (
        f'<p class="age"><strong>{age.mean:z.1f} years</strong> {held}</p>{curve}'
        f"{bars('Age group', groups) if groups else ''}"
    )


def interval_is_calibrated(estimator: AgeEstimator) -> bool:
    """Return whether the interval that is shown was fitted on held-out faces."""
    calibration = estimator.model.calibration
    return calibration is not None and LEVEL in calibration.quantiles


def _unsure(estimator: AgeEstimator) -> str:
    return f'<p class="unsure"><strong>Unsure:</strong> {escape(unsure_rule(estimator))}</p>'


def unsure_rule(estimator: AgeEstimator) -> str:
    """Say beyond which thresholds a face is unsure; empty if there are none."""
    calibration = estimator.model.calibration
    if calibration is None:
        return ""
    rules = []
    if calibration.max_width is not None:
        most = pluralize(calibration.max_width, "year")
        rules.append(f"its {100 * LEVEL:.0f} % interval is wider than {most}")
    if calibration.min_group_prob is not None:
        rules.append(f"its likeliest age group has less than {100 * calibration.min_group_prob:g} %")
    return " or ".join(rules)


def _attention(face: Face, number: int, attention: FaceAttention, scale: float) -> str:
    figures = "".join(
        "<figure>"
        + gates_over(face.crop.image, gates, scale, f"Attention after stage {stage} on face {number}")
        + f"<figcaption>stage {stage}, largest gate {largest_gate(gates)}</figcaption></figure>"
        for stage, gates in attention.maps.items()
    )
    return f'<div class="attention" role="group" aria-label="Attention">{figures}</div>' if figures else ""


def _rates(attention: FaceAttention) -> str:
    tables = "".join(
        bars(f"Dilation rates, stage {stage}", _named(rates), marked="most")
        for stage, rates in attention.rates.items()
    )
    return f'<div class="rates">{tables}</div>' if tables else ""


def _named(rates: Sequence[tuple[int, float]]) -> dict[str, float]:
    """Name the scales of a stage by their rates; where a rate comes twice, by its place too."""
    numbers = [rate for rate, _ in rates]
    return {
        f"rate {rate}" + (f" (no. {place})" if numbers.count(rate) > 1 else ""): share
        for place, (rate, share) in enumerate(rates, start=1)
    }
