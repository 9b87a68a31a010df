import io
import math

import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mtmsa_lightning.models.distributions import (
    CalibratedAge,
    CategoricalAge,
    GaussianAge,
    LaplaceAge,
    distribution_columns,
    distribution_from_columns,
    printed_age,
    printed_columns,
)

DISTRIBUTIONS = [
    GaussianAge(torch.tensor([20.0, 33.3]), torch.tensor([2.0, 7.5])),
    LaplaceAge(torch.tensor([20.0, 33.3]), torch.tensor([2.0, 7.5])),
    CategoricalAge(torch.randn(2, 62, generator=torch.Generator().manual_seed(0)).log_softmax(-1), 16),
]


def through_csv(columns):
    table = pd.DataFrame({name: values.numpy() for name, values in columns.items()})
    text = io.StringIO(table.to_csv(index=False))
    return {name: torch.tensor(column.to_numpy()) for name, column in pd.read_csv(text).items()}


@pytest.mark.parametrize("age", DISTRIBUTIONS)
def test_a_distribution_comes_back_from_a_table(age):
    columns = through_csv(age.columns())
    others = {"gender_male": torch.ones(2)}
    assert distribution_columns([*others, *columns]) == list(columns)
    again = distribution_from_columns(columns | others)
    assert type(again) is type(age)
    for x in (16.0, 25.4, 33.0):
        torch.testing.assert_close(again.log_prob(x), age.log_prob(x), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(columns["age_mean"], age.mean)
    torch.testing.assert_close(columns["age_std"], age.std)


@pytest.mark.parametrize("age", DISTRIBUTIONS)
def test_fitted_intervals_come_back_around_any_distribution(age):
    ends = torch.tensor([11.0, 12.0]).double(), torch.tensor([51.0, 52.0]).double()
    columns = through_csv(CalibratedAge(age, {0.9: ends}).columns())
    assert distribution_columns(columns) == list(columns)
    again = distribution_from_columns(columns)
    assert type(again.base) is type(age)
    assert torch.equal(torch.stack(again.interval(0.9)), torch.stack(ends))


@pytest.mark.parametrize("family", [GaussianAge, LaplaceAge])
def test_a_table_shows_no_age_below_0_and_keeps_the_distribution_as_it_is(family):
    base = family(torch.tensor([-1.5, 0.5, 30.0]), torch.tensor([2.0, 3.0, 4.0]))
    radius = 1.5 * base.std
    ends = base.mean - radius, base.mean + radius
    infinite = torch.full((3,), -math.inf).double(), torch.full((3,), math.inf).double()
    columns = through_csv(printed_columns(CalibratedAge(base, {0.9: ends, 0.95: infinite}).columns()))
    shown = ["age_mean", "age_low90", "age_high90", "age_low95", "age_high95"]
    for name in shown:
        assert (columns[name] >= 0).all()
        assert torch.equal(columns[name], printed_age(columns[f"{name}_unclipped"]))
    assert distribution_columns(columns) == list(columns)
    again = distribution_from_columns(columns)
    torch.testing.assert_close(again.mean, base.mean)
    torch.testing.assert_close(again.crps(2.0), base.crps(2.0))
    torch.testing.assert_close(torch.stack(again.interval(0.9)), torch.stack(ends))
    assert torch.equal(torch.stack(again.interval(0.95)), torch.stack(infinite))
    for name in shown:
        with pytest.raises(ValueError, match=f"{name} is not {name}_unclipped clipped at 0: change both"):
            distribution_from_columns({**columns, name: columns[name].clamp(max=99) + 1})


@given(st.lists(st.floats(-50, 50), min_size=2, max_size=20), st.integers(0, 80))
def test_any_probabilities_come_back(logits, first):
    age = CategoricalAge(torch.tensor([logits], dtype=torch.float64).log_softmax(-1), first)
    again = distribution_from_columns(age.columns())
    assert again.min_age == first
    torch.testing.assert_close(again.pmf, age.pmf, rtol=1e-12, atol=0)


def test_the_order_of_the_columns_does_not_matter():
    columns = DISTRIBUTIONS[2].columns()
    again = distribution_from_columns({name: columns[name] for name in sorted(columns, reverse=True)})
    torch.testing.assert_close(again.pmf, DISTRIBUTIONS[2].pmf)


ONE = torch.ones(1).double()
WRONG = [
    ({"age_mean": ONE}, "no column age_std"),
    ({"age_mean": ONE, "age_std": 0 * ONE}, "age_std must be positive"),
    ({"age_mean": ONE, "age_std": ONE, "age_laplace_scale": -ONE}, "age_laplace_scale must be positive"),
    ({"age_mean": ONE, "age_std": ONE, "age_p_3": ONE / 2, "age_p_5": ONE / 2}, "each year of a range"),
    ({"age_mean": ONE, "age_std": ONE, "age_p_3": ONE, "age_p_x": ONE}, "each year of a range"),
    ({"age_mean": ONE, "age_std": ONE, "age_p_3": ONE, "age_p_4": ONE}, "sum to 1"),
    ({"age_mean": ONE, "age_std": ONE, "age_p_3": 2 * ONE, "age_p_4": -ONE}, "sum to 1"),
]


@pytest.mark.parametrize(("columns", "message"), WRONG)
def test_what_is_no_distribution_is_refused(columns, message):
    with pytest.raises(ValueError, match=message):
        distribution_from_columns(columns)


@pytest.mark.parametrize("family", ["gaussian", "laplace", "categorical", "calibrated"])
def test_a_face_of_a_batch_keeps_its_distribution(family):
    mean, std = torch.tensor([20.0, 41.5, 63.0]), torch.tensor([2.0, 3.0, 4.5])
    gaussian = GaussianAge(mean, std)
    batch = {
        "gaussian": gaussian,
        "laplace": LaplaceAge(mean, std),
        "categorical": CategoricalAge(torch.randn(3, 90, dtype=torch.float64).log_softmax(1), 5),
        "calibrated": CalibratedAge(gaussian, {0.9: (mean - 7, mean + 9)}),
    }[family]
    one = batch[1:2]
    torch.testing.assert_close(one.mean, batch.mean[1:2])
    torch.testing.assert_close(one.std, batch.std[1:2])
    for level in (0.5, 0.9):
        for end, expected in zip(one.interval(level), batch.interval(level), strict=True):
            torch.testing.assert_close(end, expected[1:2])
    torch.testing.assert_close(one.interval_prob(30, 45), batch.interval_prob(30, 45)[1:2])
