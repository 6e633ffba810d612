"""What the soak test takes for a leak. Short runs of it are in tests/io/life/test_protocol_sockets.py."""

import random
from collections.abc import Callable

import pytest
from soak.runner import GROWTH, Sample, leak, unexpected

MIB = 1 << 20


def samples(memory: Callable[[int], float], descriptors: Callable[[int], int] = lambda _: 17) -> list[Sample]:
    """Forty rounds."""
    return [Sample(10.0 * i, 400 * i, int(memory(i)), descriptors(i)) for i in range(1, 41)]


def noise(i: int) -> float:
    return random.Random(i).uniform(-1, 1) * MIB


def test_what_settles_is_no_leak() -> None:
    assert leak(samples(lambda i: 50 * MIB + noise(i))) is None
    assert leak(samples(lambda i: 50 * MIB + min(i, 10) * 5 * MIB + noise(i))) is None, "it was warming up"
    assert leak(samples(lambda i: 50 * MIB - i * MIB)) is None
    assert leak(samples(lambda i: 50 * MIB + (i == 40) * 100 * MIB)) is None, "one sample is none"


def test_memory_that_grows() -> None:
    assert "memory grows by" in str(leak(samples(lambda i: 50 * MIB + i * GROWTH / 20 + noise(i))))


def test_memory_that_grows_too_slowly_to_say() -> None:
    assert leak(samples(lambda i: 50 * MIB + i * GROWTH / 60)) is None


def test_descriptors_that_grow() -> None:
    assert "descriptors grow" in str(leak(samples(lambda _: 50 * MIB, lambda i: 17 + i // 8)))
    assert leak(samples(lambda _: 50 * MIB, lambda i: 17 + i % 2)) is None, "one that is about to be closed"


@pytest.mark.parametrize("count", range(8))
def test_few_rounds_say_nothing(count: int) -> None:
    assert leak(samples(lambda i: i * 100 * MIB)[:count]) is None


def test_the_log() -> None:
    log = "WARNING:crest:on_message was cancelled, 2 s after the connection ended\n\nERROR:crest:what?\n"
    assert unexpected(log, direct=True) == ["ERROR:crest:what?"]


def test_the_log_of_transports_that_are_told_late() -> None:
    """crest's own are not."""
    log = "WARNING:asyncio:socket.send() raised exception.\n"
    assert unexpected(log, direct=False) == []
    assert unexpected(log, direct=True) == [log.rstrip()]
