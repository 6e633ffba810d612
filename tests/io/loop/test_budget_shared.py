"""crest.io.loop.budget: a limit for what waits in several processes together."""

from collections.abc import Iterator

import pytest
from support.link import SMALL_KERNEL, Link, Scene, scene, used

from crest.io.loop.census import Census

LIMIT = 4_000_000
"""For all. The share of each of two is half of it."""


@pytest.fixture
def memory() -> bytearray:
    return bytearray(2 * Census.SLOT)


@pytest.fixture
def two(direct: bool, memory: bytearray) -> Iterator[tuple[Scene, Scene]]:
    """Two processes, each with a loop and a server of its own."""
    options = {"max_backlog": 1 << 24, "max_backlog_total": LIMIT}
    with scene(direct=direct, **options) as one, scene(direct=direct, **options) as other:
        for slot, each in enumerate((one, other)):
            census = Census(memory, slot)
            census.begin()
            each.turn.budget.share(census)
        yield one, other


def waiting(stage: Scene, size: int) -> Link:
    """A connection for which so much waits, and little else."""
    link = stage.link(send_buffer=SMALL_KERNEL, room=0)
    assert link.connection.send("x" * size)
    stage.end_turn()
    return link


def is_closed(link: Link) -> bool:
    link.scene.end_turn(2)
    return not link.connection.is_open()


def test_one_may_have_all_that_others_do_not(two: tuple[Scene, Scene]) -> None:
    one, other = two
    first = waiting(one, 3_500_000)
    second = waiting(other, 300_000)
    one.loop.advance(0.1)
    assert not is_closed(first) and not is_closed(second)


def test_the_one_with_more_than_its_share_gives_way(two: tuple[Scene, Scene]) -> None:
    """Though it has taken nothing more, and others have."""
    one, other = two
    first, small = waiting(one, 3_500_000), waiting(one, 100_000)
    second = waiting(other, 900_000)
    assert not is_closed(second) and not is_closed(first)
    other.loop.advance(0.1)
    assert not is_closed(second)
    one.loop.advance(0.1)
    assert is_closed(first) and not is_closed(small)
    assert one.seen(first)[-1][:2] == ("close", 1013)
    assert 900_000 < used(one) + used(other) < LIMIT


def test_who_takes_too_much_is_closed_at_once(two: tuple[Scene, Scene]) -> None:
    one, other = two
    first = waiting(one, 1_900_000)
    second = waiting(other, 2_500_000)
    assert is_closed(second) and not is_closed(first)


def test_both_may_have_their_shares(two: tuple[Scene, Scene]) -> None:
    links = [waiting(each, 1_900_000) for each in two]
    for each in two:
        each.loop.advance(0.1)
    assert not any(map(is_closed, links))


def test_nobody_looks_while_less_than_the_share_waits(two: tuple[Scene, Scene]) -> None:
    one, _ = two
    first = waiting(one, 1_900_000)
    assert 0.1 not in [round(each, 3) for each in one.loop.pending()]
    second = waiting(one, 1_000_000)
    assert 0.1 in [round(each, 3) for each in one.loop.pending()]
    for link in (first, second):
        link.read_all()
    one.loop.advance(0.1)
    assert 0.1 not in [round(each, 3) for each in one.loop.pending()]


def test_what_waited_in_a_process_that_ended_does_not_count(two: tuple[Scene, Scene], memory: bytearray) -> None:
    one, other = two
    waiting(other, 1_900_000)
    Census(memory, 0).clear(1)
    first = waiting(one, 3_900_000)
    assert not is_closed(first)
