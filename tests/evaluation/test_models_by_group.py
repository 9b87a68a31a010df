import numpy as np
import pytest
from prediction_tables import table_of
from scipy import stats

from mtmsa_lightning.evaluation.comparison import Contender, short_names
from mtmsa_lightning.evaluation.models_by_group import models_by_group
from mtmsa_lightning.evaluation.predictions import with_texts
from mtmsa_lightning.reports.plots.models import several_models


def test_metrics_by_group_and_curves_are_those_of_the_tables():
    table = with_texts(table_of(300).assign(subject=""))
    other = table.assign(age_mean=table["age_mean"] + 3)
    one, two = models_by_group([Contender("a", [table], {}), Contender("b", [table, other], {})], draws=50)
    assert (one.name, two.name) == ("a", "b")
    error = (table["age_mean"] - table["label_age_low"]).abs()
    both = (error + (other["age_mean"] - table["label_age_low"]).abs()) / 2
    for model, errors in ((one, error), (two, both)):
        rows = model.groups.query("metric == 'age_mae'").set_index("group")
        assert rows.loc["all", "value"] == pytest.approx(errors.mean())
        male = table["label_gender"] == "male"
        assert rows.loc["male", "value"] == pytest.approx(errors[male].mean())
        assert rows.loc["male", "faces"] == male.sum()
        assert (rows["low"] < rows["value"]).all()
        assert "asian" not in rows.index, "too few"
    assert one.cumulative_score[5] == pytest.approx((error <= 5).mean())
    expected = [(each <= 5).mean() for each in (error, (other["age_mean"] - table["label_age_low"]).abs())]
    assert two.cumulative_score[5] == pytest.approx(np.mean(expected))
    gender = one.groups.query("metric == 'gender_acc' and group == 'all'").iloc[0]
    right = round(gender["value"] * gender["faces"])
    interval = stats.binomtest(right, int(gender["faces"])).proportion_ci(method="wilson")
    assert (gender["low"], gender["high"]) == pytest.approx(tuple(interval))


def drawn_by(axes) -> set[str]:
    """The names of what has a finite point in a panel."""
    lines = [(line.get_label(), line) for line in axes.lines]
    lines += [(bars.get_label(), bars[0]) for bars in axes.containers]
    named = [(name, np.isfinite(line.get_xydata()).all(axis=1)) for name, line in lines if name[0] != "_"]
    return {name for name, there in named if there.any()}


def test_no_panel_is_empty_and_the_legend_has_every_model():
    table = with_texts(table_of(120).assign(subject=""))
    age, gender = (
        table[[c for c in table if not str(c).startswith(task)]] for task in (("gender_", "race_"), "age_")
    )
    sides = [Contender(name, [each], {}) for name, each in (("a", table), ("b", age), ("c", gender))]
    one, two, three = models_by_group(sides, draws=20)
    alone = several_models([one])
    assert [drawn_by(axes) for axes in alone.axes] == [{"a"}] * 4
    both = several_models([one, two])
    assert [axes.get_xlabel() for axes in both.axes] == ["absolute error n (years)", "age MAE (years)"]
    assert [drawn_by(axes) for axes in both.axes] == [{"a", "b"}] * 2
    every = several_models([two, one, three])
    assert [drawn_by(axes) for axes in every.axes] == [{"a", "b"}] * 2 + [{"a", "c"}] * 2
    assert {text.get_text() for text in every.legends[0].get_texts()} == {"a", "b", "c"}


def test_models_have_short_names_that_differ():
    def names(*sides):
        return short_names([Contender(path, [], {"seeds": seeds}, title) for path, seeds, title in sides])

    assert names(("runs/a/1", [0], "plain"), ("x/b.csv", [], "")) == ["plain", "b"]
    assert names(("r/1", [0], "plain"), ("r/2", [1], "plain")) == ["plain, seed 0", "plain, seed 1"]
    assert names(("r/1", [0], "plain"), ("r/2", [0], "plain")) == ["plain, 1", "plain, 2"]
    assert names(("r/1", [], ""), ("q/1", [], "")) == ["r/1", "q/1"]
