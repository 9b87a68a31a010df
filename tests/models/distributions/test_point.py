import torch

from mtmsa_lightning.models.distributions import (
    CalibratedAge,
    GaussianAge,
    PointAge,
    distribution_from_columns,
)

AGE = torch.tensor([-2.0, 20.0, 30.5])


def test_a_point_is_the_limit_of_a_sure_prediction():
    point, sure = PointAge(AGE), GaussianAge(AGE, torch.full((3,), 1e-9))
    for age in (0.0, 20.5, 40.0):
        torch.testing.assert_close(point.crps(age), sure.crps(age))
    edges = [10.0, 30.0]
    torch.testing.assert_close(point.group_probs(edges), sure.group_probs(edges))
    torch.testing.assert_close(point.quantile(0.1), AGE.double())
    assert point[1:].mean.tolist() == [20, 30.5]
    assert not point.gives()
    assert not point.gives(0.9)


def test_a_point_with_an_interval_gives_that_interval_only():
    with_interval = CalibratedAge(PointAge(AGE), {0.9: (AGE - 1, AGE + 1)})
    assert with_interval.gives(0.9)
    assert not with_interval.gives(0.8)
    assert not with_interval.gives()
    assert CalibratedAge(GaussianAge(AGE, AGE.abs()), {}).gives(0.3)
    again = distribution_from_columns(with_interval.columns())
    assert not again.gives()
    torch.testing.assert_close(again.mean, AGE.double())
    torch.testing.assert_close(again.interval(0.9)[1], (AGE + 1).double())
