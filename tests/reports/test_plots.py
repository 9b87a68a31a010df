"""Figures show what they say: the artists' data is looked at, not pixels."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_up_plots import PLOTS
from matplotlib import rcParams
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PolyCollection
from matplotlib.colors import LogNorm
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from mtmsa_lightning.reports.plots import age as age_plots
from mtmsa_lightning.reports.plots import attention as attention_plots
from mtmsa_lightning.reports.plots import classes as class_plots
from mtmsa_lightning.reports.plots import style


def lines(axes):
    return {line.get_label(): line.get_xydata() for line in axes.lines}


def texts(axes):
    return [text.get_text() for text in axes.texts]


def test_the_cumulative_score_is_drawn_in_percent_with_cs5():
    figure = age_plots.cumulative_score([0, 5, 10], [0.1, 0.581, 1.0], faces=1196)
    (axes,) = figure.axes
    np.testing.assert_allclose(axes.lines[0].get_xydata(), [[0, 10], [5, 58.1], [10, 100]])
    assert axes.get_title(loc="left") == "CS@5 = 58.1 %"
    assert axes.get_title(loc="right") == "n = 1,196"
    assert axes.get_xlabel() == "absolute error n (years)"


def test_a_curve_without_the_five_has_no_mark():
    assert age_plots.cumulative_score([0, 1], [0, 1], faces=1).axes[0].get_title(loc="left") == ""


def test_hexagons_hold_every_face_with_a_label_once():
    rng = np.random.default_rng(0)
    true, predicted = rng.integers(16, 78, 500).astype(float), rng.uniform(10, 90, 500)
    true[:20], predicted[20:30] = np.nan, np.nan
    figure = age_plots.predicted_against_true(true, predicted)
    axes = figure.axes[0]
    (hexagons,) = axes.collections
    assert hexagons.get_array().sum() == 470
    assert isinstance(hexagons.norm, LogNorm)
    assert axes.get_title(loc="right") == "n = 470"
    assert axes.get_xlim() == axes.get_ylim()
    np.testing.assert_allclose(axes.get_xlim(), (10 - 80 / 30, 90 + 80 / 30))


@pytest.mark.parametrize(("true", "shown"), [([34.0], 1), ([np.nan], 0), ([], 0)])
def test_one_face_or_none_can_be_drawn(true, shown, tmp_path):
    figure = age_plots.predicted_against_true(true, np.full(len(true), 30.0))
    assert figure.axes[0].get_title(loc="right") == f"n = {shown}"
    style.save(figure, tmp_path, "x")


def test_errors_by_age_show_mean_interval_bias_and_count():
    columns = {"age": ["0-9", "10-19"], "faces": [40, 3], "age_mae": [5.0, np.nan], "age_bias": [1.5, np.nan]}
    errors = pd.DataFrame(columns | {"age_mae_low": [4.0, np.nan], "age_mae_high": [7.0, np.nan]})
    upper, lower = age_plots.error_by_age(errors).axes
    np.testing.assert_array_equal(lines(upper)["bias"][0], [0, 1.5])
    (bars,) = upper.containers
    np.testing.assert_allclose(bars[2][0].get_segments()[0], [[0, 4], [0, 7]])
    assert [bar.get_height() for bar in lower.patches] == [40, 3]
    assert [label.get_text() for label in lower.get_xticklabels()] == ["0-9", "10-19"]
    assert upper.get_title(loc="right") == "n = 43"


def test_coverage_before_and_after_calibration_with_the_conformal_intervals():
    nominal = np.array([0.5, 0.9])
    figure = age_plots.interval_coverage(
        {"before": (nominal, [0.4, 0.8]), "after": (nominal, [0.5, 0.91])},
        300,
        {"conformal": ([0.9], [0.893])},
    )
    (axes,) = figure.axes
    np.testing.assert_allclose(lines(axes)["before"], [[50, 40], [90, 80]])
    np.testing.assert_allclose(lines(axes)["after"], [[50, 50], [90, 91]])
    np.testing.assert_allclose(lines(axes)["conformal"], [[90, 89.3]])


def test_risk_coverage_compares_with_a_random_choice_and_marks_the_threshold():
    (axes,) = age_plots.risk_coverage([0.5, 1.0], [3.0, 5.0], 2, "MAE (years)", kept=0.82).axes
    drawn = lines(axes)
    np.testing.assert_allclose(drawn["most certain first"], [[50, 3], [100, 5]])
    np.testing.assert_allclose(drawn["all faces, or a random choice"][:, 1], 5)
    np.testing.assert_allclose(drawn["threshold keeps 82 %"][:, 0], 82)
    assert axes.get_ylim()[0] == 0


def test_reliability_of_classes_leaves_empty_bins_out():
    upper, lower = class_plots.class_reliability([np.nan, 0.7], [np.nan, 0.6], [0, 12], 0.1, "race").axes
    np.testing.assert_allclose(lines(upper)["race (ECE 10.0 %)"], [[70, 60]])
    assert [bar.get_height() for bar in lower.patches] == [100]


def test_confusion_gives_percent_of_the_label_and_counts():
    axes = class_plots.confusion([[3, 1], [0, 0]], ["male", "female"], "gender").axes[0]
    np.testing.assert_allclose(axes.images[0].get_array(), [[75, 25]])
    assert texts(axes) == ["75\n(3)", "25\n(1)"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["male"], "no face is labelled female"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["male", "female"]
    assert axes.get_ylabel() == "labelled gender"
    assert axes.get_title(loc="right") == "n = 4"


def test_labels_of_too_few_faces_show_their_counts_only():
    axes = class_plots.confusion([[30, 10], [0, 2]], ["male", "female"], "gender", min_faces=40).axes[0]
    np.testing.assert_allclose(np.ma.filled(axes.images[0].get_array(), np.nan), [[75, 25], [np.nan] * 2])
    assert texts(axes) == ["75\n(30)", "25\n(10)", "0", "(2)"]


def test_subgroups_with_too_few_faces_show_their_count_only():
    values, counts = [[6.5, np.nan], [np.nan, 4.0]], [[80, 12], [0, 40]]
    axes = class_plots.subgroup_map(values, counts, ["a", "b"], ["0-9", "10-19"], "MAE (years)", 132).axes[0]
    assert texts(axes) == ["6.5\n(80)", "(12)", "-", "4.0\n(40)"]
    assert axes.get_title(loc="right") == "n = 132"


def test_groups_without_any_face_have_no_row_or_column():
    values, counts = [[6.5, np.nan], [np.nan, np.nan]], [[80, 0], [0, 0]]
    axes = class_plots.subgroup_map(values, counts, ["a", "b"], ["0-9", "10-19"], "MAE (years)", 80).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0-9"]


def test_cells_of_one_value_have_no_scale_of_colours():
    for name in ("subgroups_equal", "subgroups_one", "subgroups_none", "hexagons_one"):
        (axes,) = PLOTS[name]().axes
        assert axes.get_title(loc="left"), "which says what the value is"


def test_attention_is_shown_over_the_faces_on_a_scale_symmetric_about_zero():
    faces = [np.zeros((64, 64, 3), np.uint8)] * 2
    gates = {"stage 2": np.array([[[0.1, -0.3]], [[0.2, 0.0]]])}
    figure = attention_plots.attention_maps(faces, gates, ["3", "40"])
    overlays = [axes.images[-1] for axes in figure.axes if len(axes.images) == 2]
    assert len(overlays) == 2
    np.testing.assert_allclose(overlays[0].get_array(), [[0.1, -0.3]])
    assert {overlay.get_clim() for overlay in overlays} == {(-0.3, 0.3)}
    assert {axes.get_ylabel() for axes in figure.axes} == {"", "stage 2\nlargest -0.3", "gate"}
    assert tuple(overlays[0].get_extent()) == (-0.5, 63.5, 63.5, -0.5), "stretched over the whole face"


def test_attention_maps_share_a_scale_on_which_faint_gates_stay_faint():
    faces = [np.full((64, 64, 3), 90, np.uint8)]
    gates = {"stage 2": np.full((1, 4, 4), 0.05), "stage 3": np.full((1, 4, 4), 5e-5)}
    figure = attention_plots.attention_maps(faces, gates, ["3"])
    overlays = [axes.images[-1] for axes in figure.axes if len(axes.images) == 2]
    assert {overlay.get_clim() for overlay in overlays} == {(-0.1, 0.1)}
    alphas = [overlay.to_rgba(overlay.get_array())[..., 3].max() for overlay in overlays]
    assert alphas[0] > 0.3
    assert alphas[1] < 0.01, "the face is seen"
    assert "stage 3\nlargest +5e-05" in {axes.get_ylabel() for axes in figure.axes}


def test_scale_weights_have_a_line_per_rate_and_the_equal_share():
    weights = {"stage 2": {"rate 1": [0.4, 0.3], "rate 2": [0.6, 0.7]}}
    (axes,) = attention_plots.scale_weights(["0-9", "10-19"], weights, 50).axes
    np.testing.assert_allclose(lines(axes)["rate 2"], [[0, 60], [1, 70]])
    np.testing.assert_allclose(axes.lines[0].get_ydata(), 50)


@pytest.fixture(scope="module")
def laid_out():
    """Every plot, with its layout found."""
    figures = {}
    for name, draw in PLOTS.items():
        figures[name] = draw()
        FigureCanvasAgg(figures[name])
        figures[name].draw_without_rendering()
    return figures


def inside(inner, outer, slack=0.5) -> bool:
    return (
        inner.x0 >= outer.x0 - slack
        and inner.y0 >= outer.y0 - slack
        and inner.x1 <= outer.x1 + slack
        and inner.y1 <= outer.y1 + slack
    )


@pytest.mark.parametrize("name", PLOTS)
def test_plots_are_legible_in_print(laid_out, name):
    figure = laid_out[name]
    sizes = {text.get_fontsize() for text in figure.findobj(Text) if text.get_text()}
    assert min(sizes) >= 8
    assert figure.get_figwidth() <= 7, "two columns at most"


@pytest.mark.parametrize("name", ["reliability_none", "attention_zero"])
def test_plots_are_saved_as_svg_and_png(name, tmp_path):
    style.save(PLOTS[name](), tmp_path, name)
    assert {file.name for file in tmp_path.iterdir()} == {f"{name}.svg", f"{name}.png"}


@pytest.mark.parametrize("name", PLOTS)
def test_no_legend_covers_what_is_drawn(laid_out, name):
    figure = laid_out[name]
    assert not any(axes.get_legend() for axes in figure.axes), "legends stand outside"
    for legend in figure.legends:
        box = legend.get_window_extent()
        assert inside(box, figure.bbox)
        assert not any(box.overlaps(axes.get_tightbbox()) for axes in figure.axes)


@pytest.mark.parametrize("name", PLOTS)
def test_no_text_is_cut_or_lies_on_another(laid_out, name):
    figure = laid_out[name]
    for axes in figure.axes:
        assert inside(axes.get_tightbbox(), figure.bbox, slack=1)
        cells = [text.get_window_extent() for text in axes.texts]
        assert all(inside(box, axes.bbox) for box in cells)
        places = sorted((round(box.y0), box.x0, box.x1) for box in cells)
        for (row, _, end), (other, start, _) in pairwise(places):
            assert row != other or end <= start + 0.5, "texts of neighbouring cells"


@pytest.mark.parametrize("name", PLOTS)
def test_no_mark_is_cut_by_the_axes(laid_out, name):
    for axes in laid_out[name].axes:
        for line in axes.lines:
            points = line.get_xydata()
            marked = line.get_marker() not in ("None", "", None) and len(points)
            if marked and line.get_clip_on():
                radius = line.get_markersize() / 72 * laid_out[name].dpi / 2
                places = axes.transData.transform(points[np.isfinite(points).all(1)])
                low, high = places - radius, places + radius
                assert (low >= axes.bbox.min - 1).all()
                assert (high <= axes.bbox.max + 1).all()
        for hexagons in (each for each in axes.collections if isinstance(each, PolyCollection)):
            half = hexagons.get_paths()[0].get_extents()
            for centre in hexagons.get_offsets():
                corners = axes.transData.transform([centre + half.min, centre + half.max])
                assert inside(Bbox(corners), axes.bbox)


def test_every_plot_is_among_those_made_up():
    modules = (age_plots, attention_plots, class_plots)
    drawn = {name for each in modules for name, plot in vars(each).items() if hasattr(plot, "__wrapped__")}
    assert len(drawn) == 10
    source = (Path(__file__).parent / "made_up_plots.py").read_text()
    assert {name for name in drawn if f"plots.{name}(" in source} == drawn


def test_the_same_figure_gives_the_same_svg(tmp_path):
    def svg(folder):
        return style.save(
            class_plots.confusion([[2, 1], [0, 3]], "ab"), tmp_path / folder, "x", "a title"
        ).read_text()

    assert svg("a") == svg("b")
    assert "<dc:date>" not in svg("a")
    assert "a title" in svg("a")


def test_drawing_leaves_the_settings_of_matplotlib_and_pyplot_alone():
    import sys

    before = dict(rcParams)
    age_plots.cumulative_score([0, 1], [0, 1], 2)
    assert dict(rcParams) == before
    if "matplotlib.pyplot" in sys.modules:
        assert sys.modules["matplotlib.pyplot"].get_fignums() == []
