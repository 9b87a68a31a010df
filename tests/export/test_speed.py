import time

import pytest

from mtmsa_lightning.export.speed import images_per_second


def test_rates_count_images_and_ways_take_turns():
    order = []

    def way(name, seconds):
        def run():
            order.append(name)
            time.sleep(seconds)

        return run

    found = images_per_second({"slow": way("slow", 0.02), "fast": way("fast", 0.005)}, 4, seconds=0.01)
    assert found["slow"] < 4 / 0.02
    assert found["fast"] > 1.2 * found["slow"]
    rounds = [name for number, name in enumerate(order) if number == 0 or order[number - 1] != name]
    assert rounds == ["slow", "fast"] * 6, "a first round that is not counted, and five"


def test_a_spent_budget_ends_after_one_round():
    calls = []
    images_per_second({"it": lambda: calls.append(time.sleep(0.001))}, 1, seconds=0.0, budget=0.0)
    assert len(calls) == 3, "to warm up, to find how often, to count"


def test_a_rate_is_that_of_the_median_round(monkeypatch):
    clock = iter([0, 0, 1, 0, 1, 10, 11, 0, 20, 22, 0, 30, 34, 0, 40, 48, 0, 50, 66])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    assert images_per_second({"it": lambda: None}, 8, seconds=1, budget=1e9) == pytest.approx({"it": 8 / 4})
