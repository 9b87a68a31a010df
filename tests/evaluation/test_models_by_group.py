import numpy as np
import pytest
from prediction_tables import table_of
from scipy import stats

from mtmsa_lightning.evaluation.comparison import Contender
from mtmsa_lightning.evaluation.models_by_group import models_by_group
from mtmsa_lightning.evaluation.predictions import with_texts


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
