import pytest

from mtmsa_lightning.metrics.suite import METRICS
from mtmsa_lightning.metrics.titles import format_difference, format_interval, format_metric

NAMES = [spec.name for spec in METRICS]


@pytest.mark.parametrize("value", [-0.0, -1e-9, -4e-5, 0.0, 4e-5])
@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_printed_as_minus_zero(name, value):
    assert format_metric(name, value) in ("0.00", "0.0 %")
    assert format_difference(name, value) in ("+0.00", "+0.0")
    assert "-" not in format_interval(name, value, value)


def test_signs_that_mean_something_stay():
    assert format_metric("age_bias", -0.25) == "-0.25"
    assert format_difference("age_mae", -0.25) == "-0.25"
    assert format_difference("age_cs5", 0.0123) == "+1.2"
