"""crest.io.loop.census: which process takes the next connection."""

import asyncio

import pytest
from support.client import GUARD
from support.door import door
from support.events import on_each_loop

from crest.io.life.roster import Roster
from crest.io.loop.census import Census


def test_each_slot_is_a_line_of_the_cache() -> None:
    memory = bytearray(3 * Census.SLOT)
    census = Census(memory, 1)
    assert census.slot == 1
    assert census.connections() == [0, 0, 0]
    assert Census.SLOT == 64


@pytest.mark.parametrize("slot", [3, 4, 1000])
def test_there_must_be_such_a_slot(slot: int) -> None:
    with pytest.raises(ValueError, match=f"there is no slot {slot} of 3"):
        Census(bytearray(3 * Census.SLOT), slot)


def test_what_can_not_be_written_is_refused() -> None:
    with pytest.raises((TypeError, BufferError)):
        Census(bytes(Census.SLOT), 0)


def test_a_slot_that_is_cleared_counts_nothing() -> None:
    memory = bytearray(2 * Census.SLOT)
    one, other = Census(memory, 0), Census(memory, 1)
    roster = Roster()
    roster.census = one
    one.begin()
    assert other.connections() == [0, 0]
    other.clear(0)
    other.clear(7)  # there is none
    assert bytes(memory) == bytes(2 * Census.SLOT)


# ---- Who accepts -----------------------------------------------------------------------------------------------------


@on_each_loop
async def test_those_that_accept_at_one_socket_get_as_many() -> None:
    memory = bytearray(3 * Census.SLOT)
    censuses = [Census(memory, slot) for slot in range(3)]
    async with door(census=censuses[0]) as first:
        async with (
            door(census=censuses[1], sock=first.socket.dup()) as second,
            door(census=censuses[2], sock=first.socket.dup()) as third,
        ):
            for each in censuses:
                each.begin()
            doors = first, second, third
            async with asyncio.timeout(3 * GUARD):
                for count in range(1, 61):
                    first.knock()
                    while sum(len(each.visitors) for each in doors) < count:
                        await asyncio.sleep(0)
                    counts = censuses[0].connections()
                    assert counts == [len(each.visitors) for each in doors]
                    assert max(counts) - min(counts) <= 3


@on_each_loop
async def test_what_others_do_not_take_is_taken() -> None:
    """A process that has stopped, and has the fewest connections, keeps no client waiting for long."""
    memory = bytearray(2 * Census.SLOT)
    own, stopped = Census(memory, 0), Census(memory, 1)
    own.begin()
    stopped.begin()
    async with door(census=own) as made:
        for _ in range(10):
            made.knock()
        await made.came.reach(10)
    assert stopped.connections()[1] == 0


@on_each_loop
async def test_one_that_takes_no_more_is_not_waited_for() -> None:
    memory = bytearray(2 * Census.SLOT)
    own, other = Census(memory, 0), Census(memory, 1)
    own.begin()
    other.begin()
    other.end()
    async with door(census=own) as made:
        timers: list[float] = []
        made.loop.call_later = lambda delay, callback: timers.append(delay)  # type: ignore[attr-defined]
        for count in range(1, 21):
            made.knock()
            await made.came.reach(count)
        assert timers == []


@on_each_loop
async def test_closing_while_others_are_to_accept() -> None:
    memory = bytearray(2 * Census.SLOT)
    own, other = Census(memory, 0), Census(memory, 1)
    own.begin()
    other.begin()
    async with door(census=own) as made:
        for _ in range(4):
            made.knock()
        await made.came.reach(3)
        made.acceptor.close()
        assert own.connections()[0] == 3
