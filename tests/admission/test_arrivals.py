"""crest.admission.arrivals: how often each may connect, and how little is kept of it."""

import random
import tracemalloc

import pytest
from support.ledgers import ledgers

from crest.admission.arrivals import GENERATION, Arrivals


class Clock:
    def __init__(self) -> None:
        self.now = 5000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_burst_and_then_the_rate(clock: Clock) -> None:
    arrivals = Arrivals((0.5, 3), clock)
    assert [arrivals.wait("a") for _ in range(3)] == [0, 0, 0]
    assert arrivals.wait("a") == arrivals.wait("a") == pytest.approx(2)
    assert arrivals.wait("b") == 0
    clock.now += 1.5
    assert arrivals.wait("a") == pytest.approx(0.5)
    clock.now += 0.5
    assert arrivals.wait("a") == 0
    assert arrivals.wait("a") == pytest.approx(2)


def test_who_waits_has_the_whole_burst_again_and_no_more(clock: Clock) -> None:
    arrivals = Arrivals((1, 4), clock)
    for pause in (4, 4.5, 100, 1e6):
        assert [arrivals.wait("a") > 0 for _ in range(6)] == [False] * 4 + [True] * 2
        clock.now += pause


def test_whoever_is_refused_is_not_punished_for_asking(clock: Clock) -> None:
    arrivals = Arrivals((1, 1), clock)
    assert arrivals.wait("a") == 0
    for _ in range(9):
        clock.now += 0.1
        assert arrivals.wait("a") > 0
    clock.now += 0.1 + 1e-9
    assert arrivals.wait("a") == 0


def test_against_a_bucket_for_each(clock: Clock) -> None:
    """Forgetting changes nothing: the same as buckets that are kept for ever."""
    rng = random.Random(4)
    for _ in range(20):
        rate, burst = rng.choice([0.1, 1, 7]), rng.choice([1, 2, 10])
        arrivals = Arrivals((rate, burst), clock)
        buckets: dict[str, tuple[float, float]] = {}
        for _ in range(2000):
            clock.now += rng.choice([0, 0.01, 0.3, 3 / rate]) * rng.random()
            key = f"{rng.randrange(20)}"
            level, since = buckets.get(key, (float(burst), clock.now))
            level = min(level + (clock.now - since) * rate, burst)
            may = level >= 1 - 1e-9
            assert (arrivals.wait(key) == 0) == may, (level, key)
            buckets[key] = level - may, clock.now


def test_those_that_are_through_are_forgotten(clock: Clock) -> None:
    arrivals = Arrivals((1, 5), clock)
    for at in range(10_000):
        clock.now += 0.01
        arrivals.wait(f"{at}")
        assert len(arrivals) <= 1002
    clock.now += 100
    arrivals.wait("last")
    assert len(arrivals) == 1


def test_memory_has_a_bound(clock: Clock) -> None:
    arrivals = Arrivals((0.001, 5), clock)
    tracemalloc.start()
    try:
        for at in range(2 * GENERATION + 10_000):
            arrivals.wait(f"2001:db8:{at >> 16:x}:{at & 0xFFFF:x}::/64")
            assert len(arrivals) <= 2 * GENERATION
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size < 16 << 20


def test_the_newest_are_remembered_when_there_are_too_many(clock: Clock) -> None:
    arrivals = Arrivals((0.001, 1), clock)
    for at in range(2 * GENERATION + 10_000):
        assert arrivals.wait(f"{at}") == 0
        if at % 1000 == 0:
            assert arrivals.wait(f"{max(0, at - GENERATION + 1)}") > 0


# ---- Several processes -----------------------------------------------------------------------------------------------


def test_processes_together_are_as_one(clock: Clock) -> None:
    """Whichever a client comes to, it is let in as if there was one."""
    rng = random.Random(5)
    together = [Arrivals((2, 3), clock) for _ in range(3)]
    for arrivals, ledger in zip(together, ledgers(3), strict=True):
        arrivals.share(ledger, "/ws")
    alone = Arrivals((2, 3), clock)
    for _ in range(3000):
        client = rng.choice("abc")
        assert rng.choice(together).wait(client) == pytest.approx(alone.wait(client), abs=1e-6)
        clock.now += rng.choice([0, 0, 0.1, 0.3, 2])


def test_what_is_forgotten_is_forgotten_for_all(clock: Clock) -> None:
    first, second = ledgers(2, 1024)
    arrivals = Arrivals((1, 2), clock)
    arrivals.share(first, "/ws")
    for number in range(5000):
        arrivals.wait(str(number))
        clock.now += 0.01
    assert len(arrivals) <= 400
    known = [number for number in range(5000) if second.most_of_others(first.account(f"/ws {number}"))]
    assert len(known) == len(arrivals)
