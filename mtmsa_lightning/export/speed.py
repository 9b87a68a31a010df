"""Images per second of ways to run a network, measured side by side."""

import time
from collections.abc import Callable, Mapping
from statistics import median


def images_per_second(
    ways: Mapping[str, Callable[[], object]], images: int, seconds: float = 0.2, budget: float = 10.0
) -> dict[str, float]:
    """Time several ways to do the same.

    They take turns, round by round, so that whatever else the machine does meets all of them alike; the
    median round counts. A first round, which is not counted, finds how often each fits into the time.

    Args:
        ways: What to call, by name; each call goes through so many images.
        images: Images of a call.
        seconds: Time that each way has in a round, about.
        budget: Time after which no further round begins; there are five at most, and one at least.
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
