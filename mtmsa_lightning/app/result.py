"""The result of the page for an uploaded photo: HTML with embedded images."""

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from mtmsa_lightning._utils.image_formats import READ
from mtmsa_lightning._utils.images import Image, UnreadableImageError
from mtmsa_lightning._utils.text import pluralize
from mtmsa_lightning.app.drawing import age_curve, bars, embedded, gates_over, part, photo_with_boxes
from mtmsa_lightning.inference.estimator import AgeEstimator
from mtmsa_lightning.inference.face import Age, Face, FaceAttention
from mtmsa_lightning.inference.photos import read_photo
from mtmsa_lightning.reports.plots.attention import gate_scale, largest_gate
from mtmsa_lightning.settings.defaults import INTERVAL_LEVEL

MOST_FACES = 60  # maximum of faces of a photo that are shown, the largest ones

NO_FACE = "No face was found in this photo. Faces that are larger and seen from the front are found best."

FORMATS = f"Photos are image files: {', '.join(READ)}."


def predict_photo(estimator: AgeEstimator, upload: bytes, name: str) -> Markup:
    """Predict the faces in an image file, and return the photo with a card for each face, or an error."""
    try:
        photo = read_photo(upload, estimator.max_pixels, name or "photo")
        faces = estimator(photo, detect=True)
        if not faces:
            return refusal(NO_FACE) + photo_with_boxes(photo, [])
        return faces_found(estimator, photo, faces)
    except UnreadableImageError as error:
        return refusal(f"{error}. {FORMATS}")


def refusal(why: str) -> Markup:
    """Return the message for a photo that is refused."""
    return part("refusal", why)


def faces_found(estimator: AgeEstimator, photo: Image, faces: Sequence[Face]) -> Markup:
    """Return a photo, RGB, (height, width, 3), with its faces, the largest first, and a card for each."""
    found, faces = len(faces), faces[:MOST_FACES]
    text = f"{pluralize(found, 'face')} {'was' if found == 1 else 'were'} found"
    if found > 1:
        text += ", numbered from the largest"
    if found > len(faces):
        text += f"; the largest {len(faces)} are shown"
    if any(face.crop.turned for face in faces):
        text += "; the photo lies on its side or upside down, and was turned to find them"
    attention = estimator.attention(faces)
    scale = gate_scale(gates for each in attention for gates in each.maps.values())
    cards = [
        _card(estimator, face, number, each, scale)
        for number, (face, each) in enumerate(zip(faces, attention, strict=True), start=1)
    ]
    return part("answer", text, photo_with_boxes(photo, faces), cards)


def _card(
    estimator: AgeEstimator, face: Face, number: int, attention: FaceAttention, scale: float
) -> dict[str, Any]:
    """Return the content of a face's card."""
    age = face.age_or_none
    groups = {} if age is None else age.groups
    tables = {
        "Age group": {f"{first} to {last} years": share for (first, last), share in groups.items()},
        "Gender": {} if face.gender is None else face.gender.probabilities,
        "Race": {} if face.race is None else face.race.probabilities,
    }
    return {
        "image": embedded(face.crop.image),
        "side": face.crop.image.shape[0],
        "unsure": unsure_rule(estimator) if face.unsure else "",
        "age": None if age is None else _age(estimator, age),
        "over": {f"{legal_age} or older": decision for legal_age, decision in face.over.items()},
        "tables": [bars(title, shares) for title, shares in tables.items() if shares],
        "gates": [
            {
                "stage": stage,
                "largest": largest_gate(gates),
                "picture": gates_over(
                    face.crop.image, gates, scale, f"Attention after stage {stage} on face {number}"
                ),
            }
            for stage, gates in attention.maps.items()
        ],
        "rates": [
            bars(f"Dilation rates, stage {stage}", _named(rates), marked="most")
            for stage, rates in attention.rates.items()
        ],
    }


def _age(estimator: AgeEstimator, age: Age) -> dict[str, str]:
    low, high = age.interval(INTERVAL_LEVEL)
    name = f"{100 * INTERVAL_LEVEL:.0f} % interval"
    kind = "calibrated" if interval_is_calibrated(estimator) else "not calibrated"
    if high == float("inf"):
        held = f"{name}: unknown, the checkpoint was calibrated on too few faces for it"
    else:
        held = f"{name}, {kind}: {low:z.0f} to {high:z.0f} years"
    years = f"{age.mean:z.1f} years"
    curve = age_curve(age, f"Age as a curve: {years}; {held}")
    return {"years": years, "interval": held, "curve": curve}


def interval_is_calibrated(estimator: AgeEstimator) -> bool:
    """Return whether the shown interval was fitted on held-out faces."""
    calibration = estimator.model.calibration
    return calibration is not None and INTERVAL_LEVEL in calibration.quantiles


def unsure_rule(estimator: AgeEstimator) -> str:
    """Return the rule by which a face is unsure; empty without thresholds."""
    calibration = estimator.model.calibration
    if calibration is None:
        return ""
    rules = []
    if calibration.max_width is not None:
        most = pluralize(calibration.max_width, "year")
        rules.append(f"its {100 * INTERVAL_LEVEL:.0f} % interval is wider than {most}")
    if calibration.min_group_prob is not None:
        rules.append(f"its likeliest age group has less than {100 * calibration.min_group_prob:g} %")
    return " or ".join(rules)


def _named(rates: Sequence[tuple[int, float]]) -> dict[str, float]:
    """Return the weights of a stage's scales by rate, with the position for repeated rates."""
    numbers = [rate for rate, _ in rates]
    return {
        f"rate {rate}" + (f" (no. {place})" if numbers.count(rate) > 1 else ""): share
        for place, (rate, share) in enumerate(rates, start=1)
    }
