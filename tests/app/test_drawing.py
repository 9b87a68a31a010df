import base64
import math
import re
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
import scipy.stats
import torch
from jinja2.runtime import Macro
from seen_html import HOSTILE, check_harmless

from mtmsa_lightning.app.drawing import (
    SHOWN_SIDE,
    age_curve,
    age_range,
    bars,
    density,
    embedded,
    gates_over,
    part,
    percent,
    photo_with_boxes,
)
from mtmsa_lightning.inference.face import Age, Face, FaceCrop
from mtmsa_lightning.models.distributions import CalibratedAge, CategoricalAge, GaussianAge
from mtmsa_lightning.reports.html import environment
from mtmsa_lightning.reports.plots.attention import AMPLIFIED, DAMPED, gate_scale, largest_gate
from mtmsa_lightning.settings.defaults import INTERVAL_LEVEL


def gaussian(mean: float, std: float) -> Age:
    return Age(
        GaussianAge(
            torch.tensor([float(mean)], dtype=torch.float64), torch.tensor([float(std)], dtype=torch.float64)
        ),
        {},
    )


def calibrated(low: float, high: float) -> Age:
    ends = {0.9: (torch.tensor([low]), torch.tensor([high]))}
    return Age(CalibratedAge(gaussian(30, 5).distribution, ends), {})


def face(*box: float) -> Face:
    crop = FaceCrop(np.zeros((8, 8, 3), np.uint8), np.eye(2, 3), box)
    return Face(crop, None, None, None, None)


def decoded(uri: str) -> np.ndarray:
    """Return RGB or RGBA pixels of a data URI."""
    data = np.frombuffer(base64.b64decode(uri.partition("base64,")[2]), np.uint8)
    image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    return cv2.cvtColor(image, cv2.COLOR_BGRA2RGBA if image.shape[2] == 4 else cv2.COLOR_BGR2RGB)


def path(svg: str, kind: str) -> list[tuple[float, float]]:
    """Return the points of a curve's path."""
    (points,) = re.findall(rf'class="{kind}" d="([^"]*)"', svg)
    return [(float(x), float(y)) for x, y in re.findall(r"(-?[\d.]+),(-?[\d.]+)", points)]


# ------------------------------------------------------------------------ age


def test_a_gaussian_is_drawn_as_its_density() -> None:
    ages, values = density(gaussian(41.3, 6.5))
    np.testing.assert_allclose(values, scipy.stats.norm.pdf(ages, 41.3, 6.5), rtol=1e-6)
    assert ages[values.argmax()] == pytest.approx(41.3)  # also when it is narrower than a step


def test_a_pmf_is_drawn_as_its_steps() -> None:
    pmf = torch.rand(1, 101, generator=torch.Generator().manual_seed(0)).double()
    pmf /= pmf.sum()
    ages, values = density(Age(CategoricalAge(pmf.log()), {}))
    within = np.abs(ages - np.rint(ages)) < 0.45
    np.testing.assert_allclose(values[within], pmf[0].numpy()[np.rint(ages[within]).astype(int)])


@pytest.mark.parametrize(
    ("mean", "std", "last"), [(35, 8, 100), (0, 2, 100), (80, 8, 100), (85, 10, 120), (115, 30, 120)]
)
def test_the_axis_spans_a_century_and_more_where_it_must(mean: float, std: float, last: float) -> None:
    assert age_range(gaussian(mean, std)) == (0, last)


def test_curve_band_and_mean_lie_where_their_years_are() -> None:
    svg = age_curve(gaussian(50, 10), "fifty")
    line, band, (mean,) = path(svg, "line"), path(svg, "band"), path(svg, "mean")
    x = {year: 12 + year * 296 / 100 for year in (0, 33.551, 50, 66.449, 100)}
    assert (line[0][0], line[-1][0]) == (x[0], x[100])
    step = 296 / 480
    assert mean[0] == x[50]
    assert min(line, key=lambda point: point[1])[0] == pytest.approx(x[50], abs=step)
    assert x[33.551] - 0.1 <= band[0][0] <= x[33.551] + step  # the 5 and 95 % quantiles of N(50, 10)
    assert x[66.449] - step <= band[-1][0] <= x[66.449] + 0.1
    assert {y for _, y in (band[0], band[-1])} == {84}  # the band stands on the axis


@pytest.mark.parametrize(
    ("low", "high", "shown"),
    [(12.0, 40.0, (12.0, 40.0)), (-8.0, 40.0, (0.0, 40.0)), (-math.inf, math.inf, (0.0, math.inf))],
)
def test_the_fitted_interval_is_shown_and_nobody_is_younger_than_0(low, high, shown) -> None:
    age = calibrated(low, high)
    assert age.interval(INTERVAL_LEVEL) == shown
    assert path(age_curve(age, ""), "band")  # an infinite one colours the whole curve


def test_a_curve_is_well_formed_and_says_in_words_what_it_shows() -> None:
    svg = ElementTree.fromstring(age_curve(gaussian(30, 4), "30 years & <more>"))
    assert svg.attrib["role"] == "img"
    assert svg.attrib["aria-label"] == "30 years & <more>"


# ------------------------------------------------------------------------ photo


def test_boxes_lie_in_pixels_of_the_photo_and_lead_to_their_cards() -> None:
    photo = np.zeros((300, 400, 3), np.uint8)
    svg = ElementTree.fromstring(
        photo_with_boxes(photo, [face(-0.5, -0.5, 399.5, 299.5), face(9.5, 19, 50, 60)])
    )
    assert svg.attrib["viewBox"] == "0 0 400 300"
    assert svg.attrib["aria-label"] == "The photo with 2 faces, boxed and numbered"
    whole, second = svg.findall("a")
    assert [link.attrib["href"] for link in (whole, second)] == ["#face-1", "#face-2"]
    assert [link.find("text").text for link in (whole, second)] == ["1", "2"]
    box = whole.find("rect[@class='bright']").attrib  # box edges count from the first pixel's centre
    assert [float(box[key]) for key in ("x", "y", "width", "height")] == [0, 0, 400, 300]
    box = second.find("rect[@class='bright']").attrib
    assert [float(box[key]) for key in ("x", "y", "width", "height")] == [10, 19.5, 40.5, 41]


def test_a_number_stays_on_the_photo() -> None:
    svg = ElementTree.fromstring(
        photo_with_boxes(np.zeros((300, 400, 3), np.uint8), [face(-40, -30, 60, 80)])
    )
    plate = svg.find(".//rect[@class='plate']").attrib
    assert (float(plate["x"]), float(plate["y"])) == (0, 0)


@pytest.mark.parametrize(("shape", "shown"), [((300, 400), (300, 400)), ((1000, 2560), (500, 1280))])
def test_a_photo_is_shown_no_larger_than_needed(shape: tuple[int, int], shown: tuple[int, int]) -> None:
    svg = photo_with_boxes(np.full((*shape, 3), (200, 100, 50), np.uint8), [])
    (uri,) = re.findall(r'href="(data:image/jpeg[^"]*)"', svg)
    pixels = decoded(uri)
    assert pixels.shape[:2] == shown
    assert max(shown) <= SHOWN_SIDE
    assert np.abs(pixels.astype(int) - (200, 100, 50)).max() <= 3  # red is red
    assert f'viewBox="0 0 {shape[1]} {shape[0]}"' in svg


def test_pixels_are_embedded_unchanged() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 4), dtype=np.uint8)
    np.testing.assert_array_equal(decoded(embedded(pixels)), pixels)
    np.testing.assert_array_equal(decoded(embedded(pixels[..., :3].copy())), pixels[..., :3])


# ------------------------------------------------------------------------ classes and attention


@pytest.mark.parametrize(
    ("probability", "says"),
    [(0, "0 %"), (1e-9, "< 1 %"), (0.005, "0 %"), (0.006, "1 %"), (0.5, "50 %"), (0.994, "99 %"),
     (0.9951, "> 99 %"), (1, "100 %")],
)  # fmt: skip
def test_only_the_impossible_and_the_certain_are_called_so(probability: float, says: str) -> None:
    assert percent(probability) == says


def test_bars_keep_the_order_of_classes_and_mark_the_largest() -> None:
    table = ElementTree.fromstring(bars("Race", {"a": 0.25, "<b>": 0.7, "c": 0.05}, marked="most"))
    assert table.find("caption").text == "Race"
    rows = table.findall("tbody/tr")
    assert [row.find("th").text for row in rows] == ["a", "<b>", "c"]
    assert [row.findall("td")[1].text for row in rows] == ["25 %", "70 % most", "5 %"]
    assert [row.get("class") for row in rows] == [None, "most", None]
    assert rows[1].find("td/span").attrib["style"] == "width:70.0%"
    assert "<td>&lt; 1 %</td>" in bars("Race", {"a": 1e-9, "b": 1 - 1e-9})


def stacked(html: str) -> list[ElementTree.Element]:
    """Return the images that lie over each other."""
    return ElementTree.fromstring(str(html).replace('">', '"/>').replace('"/>', '">', 1)).findall("img")


def test_gates_are_orange_where_they_amplify_and_blue_where_they_damp() -> None:
    gates = np.array([[0.5, 0.0], [-0.25, -9.0]], np.float32)
    html = gates_over(np.full((64, 64, 3), 90, np.uint8), gates, 0.5, "stage & face")
    face_image, layer = stacked(html)
    assert face_image.attrib["alt"] == "stage & face"
    pixels = decoded(layer.attrib["src"])
    assert pixels.shape == (112, 112, 4)
    amplified, damped = (bytes.fromhex(colour[1:]) for colour in (AMPLIFIED, DAMPED))
    assert (*pixels[0, 0],) == (*amplified, 190)
    assert pixels[0, -1, 3] == 0  # where nothing happens the face is seen
    assert (*pixels[-1, 0],) == (*damped, 95)
    assert (*pixels[-1, -1],) == (*damped, 190)  # beyond the deepest colour there is none


def test_the_scale_of_gates_is_the_largest_of_all_maps_and_keeps_weak_ones_faint() -> None:
    maps = [np.array([[0.1, -0.4]], np.float32), np.array([[0.3]], np.float32)]
    assert gate_scale(maps) == pytest.approx(0.4)
    assert gate_scale([]) == gate_scale([np.full((2, 2), 5e-5)]) == 0.1
    assert (largest_gate(maps[0]), largest_gate(maps[1])) == ("-0.4", "+0.3")
    faint = gates_over(np.zeros((112, 112, 3), np.uint8), np.full((2, 2), 5e-5, np.float32), 0.1, "")
    assert decoded(stacked(faint)[1].attrib["src"])[..., 3].max() == 0


# ------------------------------------------------------------------------ escaping

HOSTILE_PARTS: dict[str, list] = {
    "intro": [HOSTILE, HOSTILE],
    "switches": [HOSTILE],
    "about": [[HOSTILE], {HOSTILE: HOSTILE}],
    "refusal": [HOSTILE],
    "answer": [HOSTILE, HOSTILE, []],
    "card": [
        {
            "image": HOSTILE, "side": HOSTILE, "unsure": HOSTILE, "tables": [HOSTILE], "rates": [HOSTILE],
            "over": {HOSTILE: HOSTILE},
            "age": {"years": HOSTILE, "interval": HOSTILE, "curve": HOSTILE},
            "gates": [{"picture": HOSTILE, "stage": HOSTILE, "largest": HOSTILE}],
        },
        HOSTILE,
    ],
    "rectangle": [HOSTILE, {"x": 0, "y": 0, "width": 1, "height": 1}],
    "photo": [28, 28, HOSTILE, [{"x": 0, "y": 0, "width": 1, "height": 1}], HOSTILE],
    "curve": [320, 120, 84, 12, HOSTILE, HOSTILE, 1.0, {HOSTILE: 1.0}, HOSTILE],
    "bars": [HOSTILE, [{"name": HOSTILE, "most": True, "percent": 1.0, "text": HOSTILE}]],
    "stack": [HOSTILE, HOSTILE, HOSTILE],
}  # fmt: skip


def test_hostile_texts_stay_texts_in_every_part_of_the_page() -> None:
    module = environment.get_template("app.html").module
    macros = {name for name, value in vars(module).items() if isinstance(value, Macro)}
    assert macros == set(HOSTILE_PARTS)
    for name, values in HOSTILE_PARTS.items():
        check_harmless(part(name, *values))
