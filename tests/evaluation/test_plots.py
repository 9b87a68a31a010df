"""Figures show what they say: the artists' data is looked at, not pixels."""

import numpy as np
import pytest
from matplotlib import rcParams
from matplotlib.colors import LogNorm
from matplotlib.text import Text

from mtmsa_lightning.evaluation import plots

NOTHING = np.zeros(0)


def lines(axes):
    return {line.get_label(): line.get_xydata() for line in axes.lines}


def texts(axes):
    return [text.get_text() for text in axes.texts]


def test_the_cumulative_score_is_drawn_in_percent_with_cs5():
    figure = plots.cumulative_score([0, 5, 10], [0.1, 0.581, 1.0], faces=1196)
    (axes,) = figure.axes
    np.testing.assert_allclose(axes.lines[0].get_xydata(), [[0, 10], [5, 58.1], [10, 100]])
    assert texts(axes) == ["CS@5 = 58.1 %"]
    assert axes.get_title(loc="right") == "n = 1,196"
    assert axes.get_xlabel() == "absolute error n (years)"


def test_a_curve_without_the_five_has_no_mark():
    assert texts(plots.cumulative_score([0, 1], [0, 1], faces=1).axes[0]) == []


def test_hexagons_hold_every_face_with_a_label_once():
    rng = np.random.default_rng(0)
    true, predicted = rng.integers(16, 78, 500).astype(float), rng.uniform(10, 90, 500)
    true[:20], predicted[20:30] = np.nan, np.nan
    figure = plots.predicted_against_true(true, predicted)
    axes = figure.axes[0]
    (hexagons,) = axes.collections
    assert hexagons.get_array().sum() == 470
    assert isinstance(hexagons.norm, LogNorm)
    assert axes.get_title(loc="right") == "n = 470"
    assert axes.get_xlim() == axes.get_ylim() == (10, 90)


@pytest.mark.parametrize(("true", "shown"), [([34.0], 1), ([np.nan], 0), ([], 0)])
def test_one_face_or_none_can_be_drawn(true, shown, tmp_path):
    figure = plots.predicted_against_true(true, np.full(len(true), 30.0))
    assert figure.axes[0].get_title(loc="right") == f"n = {shown}"
    plots.save(figure, tmp_path, "x")


def test_errors_by_age_show_mean_interval_bias_and_count():
    errors = plots.ErrorByAge(
        ["0-9", "10-19"], counts=[40, 3], mae=[5.0, np.nan], low=[4.0, np.nan], high=[7.0, np.nan],
        bias=[1.5, np.nan],
    )  # fmt: skip
    upper, lower = plots.error_by_age(errors).axes
    np.testing.assert_array_equal(lines(upper)["bias"][0], [0, 1.5])
    (bars,) = upper.containers
    np.testing.assert_allclose(bars[2][0].get_segments()[0], [[0, 4], [0, 7]])
    assert [bar.get_height() for bar in lower.patches] == [40, 3]
    assert [label.get_text() for label in lower.get_xticklabels()] == ["0-9", "10-19"]
    assert upper.get_title(loc="right") == "n = 43"


def test_coverage_before_and_after_calibration_with_the_conformal_intervals():
    nominal = np.array([0.5, 0.9])
    figure = plots.interval_coverage(
        {"before": (nominal, [0.4, 0.8]), "after": (nominal, [0.5, 0.91])},
        300,
        {"conformal": ([0.9], [0.893])},
    )
    (axes,) = figure.axes
    np.testing.assert_allclose(lines(axes)["before"], [[50, 40], [90, 80]])
    np.testing.assert_allclose(lines(axes)["after"], [[50, 50], [90, 91]])
    np.testing.assert_allclose(lines(axes)["conformal"], [[90, 89.3]])


def test_risk_coverage_compares_with_a_random_choice_and_marks_the_threshold():
    (axes,) = plots.risk_coverage([0.5, 1.0], [3.0, 5.0], 2, "MAE (years)", kept=0.82).axes
    drawn = lines(axes)
    np.testing.assert_allclose(drawn["most certain first"], [[50, 3], [100, 5]])
    np.testing.assert_allclose(drawn["all faces, or a random choice"][:, 1], 5)
    np.testing.assert_allclose(drawn["threshold keeps 82 %"][:, 0], 82)
    assert axes.get_ylim()[0] == 0


def test_reliability_of_classes_leaves_empty_bins_out():
    upper, lower = plots.class_reliability([np.nan, 0.7], [np.nan, 0.6], [0, 12], 0.1, "race").axes
    np.testing.assert_allclose(lines(upper)["race (ECE 10.0 %)"], [[70, 60]])
    assert [bar.get_height() for bar in lower.patches] == [100]


def test_confusion_gives_percent_of_the_label_and_counts():
    axes = plots.confusion([[3, 1], [0, 0]], ["male", "female"], "gender").axes[0]
    np.testing.assert_allclose(axes.images[0].get_array().filled(np.nan), [[75, 25], [np.nan, np.nan]])
    assert texts(axes) == ["75\n(3)", "25\n(1)"], "a class without faces has no share"
    assert axes.get_ylabel() == "labelled gender"
    assert axes.get_title(loc="right") == "n = 4"


def test_subgroups_with_too_few_faces_show_their_count_only():
    values, counts = [[6.5, np.nan], [np.nan, 4.0]], [[80, 12], [0, 40]]
    axes = plots.subgroup_map(values, counts, ["a", "b"], ["0-9", "10-19"], "MAE (years)", 132).axes[0]
    assert texts(axes) == ["6.5\n(80)", "(12)", "-", "4.0\n(40)"]
    assert axes.get_title(loc="right") == "n = 132"


def test_attention_is_shown_over_the_faces_on_a_scale_symmetric_about_zero():
    faces = [np.zeros((64, 64, 3), np.uint8)] * 2
    gates = {"stage 2": np.array([[[0.1, -0.3]], [[0.2, 0.0]]])}
    figure = plots.attention_maps(faces, gates, ["3", "40"])
    overlays = [axes.images[-1] for axes in figure.axes if len(axes.images) == 2]
    assert len(overlays) == 2
    np.testing.assert_allclose(overlays[0].get_array(), [[0.1, -0.3]])
    assert {overlay.get_clim() for overlay in overlays} == {(-0.3, 0.3)}
    assert tuple(overlays[0].get_extent()) == (-0.5, 63.5, 63.5, -0.5), "stretched over the whole face"


def test_scale_weights_have_a_line_per_rate_and_the_equal_share():
    weights = {"stage 2": {"rate 1": [0.4, 0.3], "rate 2": [0.6, 0.7]}}
    (axes,) = plots.scale_weights(["0-9", "10-19"], weights, 50).axes
    np.testing.assert_allclose(lines(axes)["rate 2"], [[0, 60], [1, 70]])
    np.testing.assert_allclose(axes.lines[0].get_ydata(), 50)


EDGE_CASES = {
    "cs": lambda: plots.cumulative_score([0], [1.0], 1),
    "errors": lambda: plots.error_by_age(
        plots.ErrorByAge(["30-39"], [1], [np.nan], [np.nan], [np.nan], [np.nan])
    ),
    "coverage": lambda: plots.interval_coverage({"all": ([0.5], [1.0])}, 1),
    "risk": lambda: plots.risk_coverage([1.0], [0.0], 1, "MAE (years)"),
    "no_risk": lambda: plots.risk_coverage(NOTHING, NOTHING, 0, "MAE (years)"),
    "reliability": lambda: plots.class_reliability([np.nan], [np.nan], [0], np.nan, "race"),
    "one_class": lambda: plots.confusion([[7]], ["other"], "race"),
    "no_face": lambda: plots.confusion(np.zeros((8, 8)), list("abcdefgh"), "age group"),
    "one_subgroup": lambda: plots.subgroup_map([[5.0]], [[40]], ["all"], ["0-9"], "MAE (years)", 40),
    "no_subgroup": lambda: plots.subgroup_map([[np.nan]], [[4]], ["all"], ["0-9"], "MAE (years)", 4),
    "one_map": lambda: plots.attention_maps(
        [np.zeros((64, 80, 3), np.uint8)], {"stage 1": np.zeros((1, 4, 5))}, ["3"]
    ),
    "one_decade": lambda: plots.scale_weights(["0-9"], {"stage 1": {"rate 1": [1.0]}}, 1),
}


@pytest.mark.parametrize("name", EDGE_CASES)
def test_edge_cases_are_drawn_and_saved_legibly(name, tmp_path):
    figure = EDGE_CASES[name]()
    sizes = {text.get_fontsize() for text in figure.findobj(Text) if text.get_text()}
    assert min(sizes) >= 8, "legible in print"
    assert figure.get_figwidth() <= 7, "two columns at most"
    plots.save(figure, tmp_path, name)
    assert {file.name for file in tmp_path.iterdir()} == {f"{name}.svg", f"{name}.png"}


def test_the_same_figure_gives_the_same_svg(tmp_path):
    def svg(folder):
        return plots.save(
            plots.confusion([[2, 1], [0, 3]], "ab"), tmp_path / folder, "x", "a title"
        ).read_text()

    assert svg("a") == svg("b")
    assert "<dc:date>" not in svg("a")
    assert "a title" in svg("a")


def test_drawing_leaves_the_settings_of_matplotlib_and_pyplot_alone():
    import sys

    before = dict(rcParams)
    plots.cumulative_score([0, 1], [0, 1], 2)
    assert dict(rcParams) == before
    if "matplotlib.pyplot" in sys.modules:
        assert sys.modules["matplotlib.pyplot"].get_fignums() == []
