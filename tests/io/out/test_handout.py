"""crest.io.out.handout: messages that are given to members one by one."""

import gc
import socket
import sys
import tracemalloc

import pytest
from support.compressing import agreement
from support.link import Link, Scene, scene, stalled, used

from crest.wire.extensions import Deflate

AT_ONCE = 1e-9
LOOK = 32
"""Outboxes between two looks at the clock."""


def joined(stage: Scene, count: int, *rooms: str) -> list[Link]:
    links = [stage.link() for _ in range(count)]
    for link in links:
        for room in rooms:
            link.connection.join(room)
    return links


def test_what_comes_from_several_rooms_leaves_in_one_send() -> None:
    with scene(direct=True) as stage:
        link = stage.link(kind=socket.SOCK_SEQPACKET)
        for room in ("a", "b"):
            link.connection.join(room)
        for text, to in (("1", "a"), ("2", "b"), ("3", None), ("4", ["a", "b"]), ("5", "a")):
            stage.hub.broadcast(text, to=to)
        link.connection.send("6")
        stage.end_turn()
        assert len(link.read()) == 1
        assert link.texts() == ["1", "2", "3", "4", "5", "6"]


def test_flushing_is_interrupted_and_goes_on(direct: bool) -> None:
    with scene(direct=direct, fanout_slice=AT_ONCE) as stage:
        links = joined(stage, 60, "a") + joined(stage, 60, "b")
        stage.hub.broadcast("x", to=["a", "b"])
        stage.end_turn()
        served = sum(link.taken() == ["x"] for link in links)
        assert served == LOOK
        stage.hub.broadcast("y", to="b")
        stage.end_turn(10)
        rest = [link.taken() for link in links]
        assert sum(got[:1] == ["x"] for got in rest) == len(links) - LOOK
        assert sum("y" in got for got in rest) == 60


def test_closing_the_hub_lets_go_of_what_is_yet_to_be_flushed() -> None:
    with scene(direct=True, fanout_slice=AT_ONCE) as stage:
        links = joined(stage, LOOK + 2, "a")
        waiting, flushed = links[0].connection, links[-1].connection
        before = sys.getrefcount(waiting), sys.getrefcount(flushed)
        stage.hub.broadcast("x", to="a")
        stage.end_turn()
        held = sys.getrefcount(waiting), sys.getrefcount(flushed)
        assert sorted(after - earlier for after, earlier in zip(held, before, strict=True)) == [0, 1]
        stage.hub.close()
        assert (sys.getrefcount(waiting), sys.getrefcount(flushed)) == before


def test_memory_for_frames_is_used_again(stage: Scene) -> None:
    links = joined(stage, 3, "a")
    stage.hub.broadcast("x", to="a")
    stage.end_turn()
    assert [link.taken() for link in links] == [["x"]] * 3
    before = used(stage)
    for _ in range(100):
        stage.hub.broadcast("y" * 2000, to="a")
        stage.end_turn()
        assert [link.taken() for link in links] == [["y" * 2000]] * 3
    assert used(stage) == before


def test_memory_of_a_large_frame_is_not_kept(stage: Scene) -> None:
    links = joined(stage, 3, "a")
    stage.hub.broadcast("x", to="a")
    stage.end_turn()
    before = used(stage)
    stage.hub.broadcast("y" * 500_000, to="a")
    stage.end_turn()
    for link in links:
        assert link.taken() == ["x", "y" * 500_000]
    stage.hub.broadcast("z", to="a")
    stage.end_turn()
    assert used(stage) <= before


def test_a_slow_member_keeps_what_it_has_to_send(direct: bool) -> None:
    with scene(direct=direct) as stage:
        slow = stalled(stage)
        slow.connection.join("a")
        others = joined(stage, 2, "a")
        wanted = ["x" * 80_000]
        for i in range(200):
            wanted.append(f"{i}" + "y" * 900)
            stage.hub.broadcast(wanted[-1], to="a")
            stage.end_turn()
        assert others[0].taken() == wanted[1:]
        assert slow.taken() == wanted
        assert slow.connection.buffered == 0


def test_a_broadcast_was_too_much_before_a_room_s_message(direct: bool) -> None:
    with scene(direct=direct, max_backlog=100_000) as stage:
        slow = stalled(stage)
        slow.connection.join("a")
        other = joined(stage, 1, "a")[0]
        stage.hub.broadcast("y" * 150_000)
        stage.hub.broadcast("z", to="a")
        stage.end_turn(2)
        assert not slow.connection.is_open()
        assert slow.connection.dropped == 2
        assert other.taken() == ["y" * 150_000, "z"]


def test_a_list_of_very_many_outboxes_is_not_kept(stage: Scene) -> None:
    rooms = [str(i) for i in range(60)]
    links = joined(stage, 100, *rooms)
    stage.hub.broadcast("warm", to=rooms[:2])
    stage.end_turn()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        stage.hub.broadcast("x", to=rooms)
        _, most = tracemalloc.get_traced_memory()
        stage.end_turn()
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [link.taken() for link in links] == [["warm", "x"]] * 100
    assert most - before > 6000 * 8, "a pointer for each place in a room"
    assert after - before < 6000 * 8 // 2


def test_an_overflow_takes_nothing_from_others(direct: bool) -> None:
    with scene(direct=direct, max_backlog=100_000) as stage:
        slow = [stalled(stage) for _ in range(5)]
        for link in slow:
            link.connection.join("a")
        others = joined(stage, 5, "a")
        stage.hub.broadcast("y" * 50_000, to="a")
        stage.end_turn(2)
        assert [link.taken() for link in others] == [["y" * 50_000]] * 5
        assert not any(link.connection.is_open() for link in slow)
        assert stage.hub.room_size("a") == 5


def test_much_in_one_turn_does_not_wait_for_its_end(stage: Scene) -> None:
    link = joined(stage, 1, "a")[0]
    for i in range(3):
        stage.hub.broadcast(f"{i}" + "x" * 40_000, to="a")
    assert len(link.taken()) == 2, "past 64 KiB it is sent"
    stage.end_turn()
    assert len(link.taken()) == 1


def test_marks_of_one_server_mean_nothing_to_another(stage: Scene) -> None:
    with scene() as other:
        foreign, own = joined(other, 1, "a")[0], joined(stage, 2, "a")
        for _ in range(3):
            stage.hub.broadcast("x", to="a", exclude=[foreign.connection, own[0].connection])
            other.hub.broadcast("y", to=["a", "b"], exclude=own[1].connection)
        stage.end_turn()
        other.end_turn()
        assert foreign.taken() == ["y"] * 3
        assert [link.taken() for link in own] == [[], ["x"] * 3]


def test_compressed_once_for_all_members_that_compress(direct: bool) -> None:
    options = Deflate(threshold=0)
    with scene(direct=direct, deflate=options) as stage:
        plain = joined(stage, 2, "a")
        compressing = [stage.link(agreed=agreement(options)) for _ in range(2)]
        for link in compressing:
            link.connection.join("a")
        text = "hello " * 50
        stage.hub.broadcast(text, to="a")
        stage.hub.broadcast(text, to="a", compress=False)
        stage.end_turn()
        assert [link.taken() for link in plain] == [[text, text]] * 2
        assert [link.inflated() for link in compressing] == [[(text, True), (text, False)]] * 2
        assert stage.hub.room_size("a") == 4


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536])
def test_sizes_around_those_of_headers_and_blocks(direct: bool, size: int) -> None:
    with scene(direct=direct) as stage:
        links = joined(stage, 3, "a")
        texts = ["x" * size] * 3
        for text in texts:
            stage.hub.broadcast(text, to="a")
        stage.end_turn()
        assert [link.taken() for link in links] == [texts] * 3
