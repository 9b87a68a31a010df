"""Measure the images per second of several functions."""

import time
from collections.abc import Callable, Mapping
from statistics import median


def images_per_second(
    ways: Mapping[str, Callable[[], object]], images: int, seconds: float = 0.2, budget: float = 10.0
) -> dict[str, float]:
    """Time several functions with the same result, which process ``images`` images per call.

    They take turns in rounds of about ``seconds``, so that other load on the machine affects all equally, and
    the median of one to five rounds, begun within ``budget`` seconds, is returned. An untimed first round
    finds the number of calls per round.
    """
    begun = time.perf_counter()
    calls = {name: _calls_within(way, seconds) for name, way in ways.items()}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(5):
        if number and time.perf_counter() - begun > budget:
            break
        for name, way in ways.items():
            start = time.perf_counter()
            for _ in range(calls[name]):
                way()
            times[name].append((time.perf_counter() - start) / calls[name])
    return {name: images / median(each) for name, each in times.items()}


def _calls_within(way: Callable[[], object], seconds: float) -> int:
    way()
    start, calls = time.perf_counter(), 0
    while calls == 0 or time.perf_counter() - start < seconds:
        way()
        calls += 1
    return calls
