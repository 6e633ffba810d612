"""crest.io.life.roster: the connections of one listener."""

import random

import pytest
from support.link import Scene

from crest.io.life.protocol import Protocol
from crest.io.life.roster import Roster


@pytest.fixture
def many(stage: Scene) -> list[Protocol]:
    return [Protocol(stage.turn, stage.site) for _ in range(20)]


def slots(roster: Roster) -> list[int]:
    return [each.slot for each in roster.protocols]


def test_each_is_listed_once_at_its_slot(many: list[Protocol]) -> None:
    roster, choice = Roster(), random.Random(1)
    for each in many:
        roster.add(each)
    assert roster.protocols == many
    left = list(many)
    while left:
        each = left.pop(choice.randrange(len(left)))
        roster.remove(each)
        assert set(roster.protocols) == set(left)
        assert slots(roster) == list(range(len(left)))


def test_one_that_is_not_listed_takes_nobody_out(many: list[Protocol]) -> None:
    roster = Roster()
    for each in many[:3]:
        roster.add(each)
    roster.remove(many[3])
    roster.remove(many[0])
    roster.remove(many[0])
    assert set(roster.protocols) == set(many[1:3])
    assert slots(roster) == [0, 1]
    with pytest.raises(TypeError):
        roster.remove(None)  # type: ignore[arg-type]


@pytest.mark.usefixtures("alone")
def test_no_memory_leaves_it_as_it_was(many: list[Protocol]) -> None:
    testcapi = pytest.importorskip("_testcapi", reason="this CPython has no way to let allocations fail")
    roster = Roster()
    added: list[Protocol] = []
    for each in many:
        testcapi.set_nomemory(0, 0)
        try:
            roster.add(each)
        except MemoryError:
            pass
        else:
            added.append(each)
        finally:
            testcapi.remove_mem_hooks()
        assert roster.protocols == added
    assert len(added) < len(many), "some had to fail"
    for each in many:
        testcapi.set_nomemory(0, 0)
        try:
            roster.remove(each)
        finally:
            testcapi.remove_mem_hooks()
    assert roster.protocols == []
