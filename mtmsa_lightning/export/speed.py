"""Measure the images per second of several functions."""

import math
import time
import timeit
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
    timers = {name: timeit.Timer(way, timer=time.perf_counter) for name, way in ways.items()}
    calls = {}
    for name, timer in timers.items():
        timer.timeit(1)  # warm-up
        calls[name] = max(1, math.ceil(seconds / timer.timeit(1)))
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(5):
        if number and time.perf_counter() - begun > budget:
            break
        for name, timer in timers.items():
            times[name].append(timer.timeit(calls[name]) / calls[name])
    return {name: images / median(each) for name, each in times.items()}
