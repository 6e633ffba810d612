"""crest.io.out.circle: places on both sides stay right, and nothing is left of a room that is empty."""

import gc
import random
import sys

import pytest
from support.link import Link, Scene, scene

AT_ONCE = 1e-9
"""As a slice: each look at the clock interrupts the round."""


def test_places_stay_right_whoever_leaves(stage: Scene) -> None:
    """A message goes to exactly those that the model has, after each of many changes."""
    chance = random.Random(1)
    links = [stage.link() for _ in range(30)]
    names = [str(i) for i in range(12)]
    model: dict[str, set[Link]] = {name: set() for name in names}
    for step in range(3000):
        link, name = chance.choice(links), chance.choice(names)
        if chance.random() < 0.5 + 0.4 * (step % 600 < 300) - 0.2:
            link.connection.join(name)
            model[name].add(link)
        else:
            link.connection.leave(name)
            model[name].discard(link)
        if step % 50 == 0:
            for each in names:
                stage.hub.broadcast(f"{step} {each}", to=each)
            stage.end_turn()
            for each in links:
                assert each.taken() == [f"{step} {name}" for name in names if each in model[name]]
    for link in links:
        assert link.connection.rooms == {name for name in names if link in model[name]}


@pytest.mark.parametrize("many", [False, True])
def test_a_connection_in_many_rooms_and_a_room_with_many(stage: Scene, many: bool) -> None:
    """Each side is searched where it is the shorter one."""
    links = [stage.link() for _ in range(20 if many else 2)]
    names = [str(i) for i in range(4 if many else 100)]
    for link in links:
        for name in names:
            link.connection.join(name)
    for name in names[::2]:
        links[0].connection.leave(name)
        links[0].connection.join(name)
        links[1].connection.leave(name)
    assert links[0].connection.rooms == set(names)
    assert links[1].connection.rooms == set(names[1::2])
    assert [stage.hub.room_size(name) for name in names] == [len(links) - 1, len(links)] * (len(names) // 2)


@pytest.mark.parametrize("ends", [False, True])
def test_a_member_leaves_that_has_had_its_turn_in_a_round(ends: bool) -> None:
    """No member is passed over, and none is served twice, as others move to the slot that is free."""
    with scene(direct=True, fanout_slice=AT_ONCE) as stage:
        links = [stage.link() for _ in range(150)]
        for link in links:
            link.connection.join("a")
        stage.hub.broadcast("x", to="a")
        stage.end_turn()
        served = [link for link in links if link.taken() == ["x"]]
        assert 0 < len(served) < len(links)
        for link in served[:5]:
            if ends:
                link.connection.close()
            else:
                link.connection.leave("a")
        stage.end_turn(10)
        assert [link.taken() for link in links if link not in served] == [["x"]] * (len(links) - len(served))
        assert [link.taken() for link in served[5:]] == [[]] * (len(served) - 5)
        assert stage.hub.room_size("a") == len(links) - 5


def test_nothing_is_left_of_rooms_that_are_empty() -> None:
    with scene() as stage:
        link = stage.link()
        for name in ("warm", "up"):
            link.connection.join(name)
            link.connection.leave(name)
        gc.collect()
        before = sys.getallocatedblocks()
        for i in range(1000):
            link.connection.join(str(i))
        for i in range(1000):
            link.connection.leave(str(i))
        gc.collect()
        assert sys.getallocatedblocks() - before < 50
