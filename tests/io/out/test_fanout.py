"""crest.io.out.fanout: a broadcast is framed once, sent once to each, and kept only for who is late."""

import gc
import random
import socket
from itertools import pairwise

import pytest
from support.link import SMALL_KERNEL, Link, Scene, scene, stalled, text
from support.loop import Loop
from support.story import ComingAndGoing

from crest.io.loop.turn import Turn
from crest.io.out.fanout import Fanout
from crest.io.out.tally import Tally


def blocks(stage: Scene) -> list[object]:
    """The blocks of the log."""
    (fanout,) = (each for each in gc.get_referents(stage.hub) if type(each) is Fanout)
    lists = [each for each in gc.get_referents(fanout) if isinstance(each, list)]
    return [each for found in lists for each in found if type(each).__name__ == "Block"]


# --- One send for each member and turn


def test_all_broadcasts_of_a_turn_leave_in_one_send(direct: bool) -> None:
    with scene(direct=direct) as stage:
        links = [stage.link(kind=socket.SOCK_SEQPACKET) for _ in range(3)]
        for link in links:
            link.transport.writes.clear()
        stage.hub.broadcast("one")
        stage.hub.broadcast_binary(b"two")
        for link in links:
            assert not any(link.read()), "the turn has not ended"
        stage.end_turn()
        for link in links:
            got = link.read() if direct else link.transport.writes
            assert got == [b"\x81\x03one\x82\x03two"]


def test_a_broadcast_goes_with_own_sends(direct: bool) -> None:
    with scene(direct=direct) as stage:
        link = stage.link(kind=socket.SOCK_SEQPACKET)
        link.transport.writes.clear()
        link.connection.send("a")
        stage.hub.broadcast("b")
        link.connection.send("c")
        stage.hub.broadcast("d")
        stage.end_turn()
        got = link.read() if direct else link.transport.writes
        assert got == [b"\x81\x01a\x81\x01b\x81\x01c\x81\x01d"]


@pytest.mark.parametrize("max_backlog", [1 << 30, 1 << 20])
def test_without_memory_to_send_it_a_broadcast_waits(max_backlog: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log does not grow with that, and nobody else notices; past max_backlog connections are cut."""
    numbers = [f"{number:065536}" for number in range(50)]
    with scene(direct=False, max_backlog=max_backlog, fanout_slice=600.0) as stage:  # one round, however busy it is
        links = [stage.link() for _ in range(50)]
        others = [stage.link() for _ in range(2)]
        with monkeypatch.context() as patch:
            for link in links:
                patch.setattr(link.transport, "is_closing", no_memory)
            for number in numbers:
                stage.hub.broadcast(number)
                assert len(blocks(stage)) <= 4
        stage.hub.broadcast("then")
        stage.end_turn()
        for link in others:
            link.read_all()
            assert link.texts() == [*numbers, "then"]
        for link in links:
            assert link.connection.is_open() == (max_backlog > 1 << 20)
            if link.connection.is_open():
                link.read_all()
                assert link.texts() == [*numbers, "then"]


def no_memory() -> bool:
    raise MemoryError


def test_a_broadcast_by_a_handler_keeps_its_place(stage: Scene) -> None:
    def answer(conn: object, message: str) -> None:
        conn.send(message + "1")  # type: ignore[attr-defined]
        stage.hub.broadcast(message + "2")
        conn.send(message + "3")  # type: ignore[attr-defined]

    stage.hub.on_message = answer
    link, other = stage.link(), stage.link()
    link.receive(text("a") + text("b"))
    other.receive(text("c"))
    stage.end_turn()
    assert link.taken() == ["a1", "a2", "a3", "b1", "b2", "b3", "c2"]
    assert other.taken() == ["a2", "b2", "c1", "c2", "c3"]


def test_much_does_not_wait_for_the_end_of_the_turn(stage: Scene) -> None:
    link = stage.link()
    for size in (100_000, 100_000, 100_000):
        assert link.taken() == []
        stage.hub.broadcast("x" * size)
    assert [len(each) for each in link.taken()] == [100_000] * 3


def test_many_blocks_do_not_wait_for_the_end_of_the_turn(stage: Scene) -> None:
    """Frames of just over half a block take one each; whatever the sizes, all of them arrive."""
    link, late = stage.link(), stalled(stage)
    sizes = [33_000, 66_000, 1, 65_526, 65_527, 32_000, 65_525, 40_000] * 10
    with scene(direct=stage.direct, max_backlog=1 << 30) as unbounded:
        link, late = unbounded.link(), stalled(unbounded)
        for i, size in enumerate(sizes):
            unbounded.hub.broadcast(chr(97 + i % 26) * size)
        unbounded.end_turn()
        wanted = [chr(97 + i % 26) * size for i, size in enumerate(sizes)]
        assert link.taken() == wanted
        assert late.taken() == ["x" * 80_000, *wanted]


@pytest.mark.parametrize("size", [0, 125, 126, 65_525, 65_526, 65_527, 65_535, 65_536, 65_537, 300_000])
def test_sizes_around_those_of_frames_and_blocks(direct: bool, size: int) -> None:
    with scene(direct=direct, max_backlog=1 << 30) as stage:
        link, late = stage.link(), stalled(stage)
        stage.hub.broadcast("before")
        stage.hub.broadcast("y" * size)
        stage.hub.broadcast("after")
        stage.end_turn()
        stage.hub.broadcast("next")
        stage.end_turn()
        assert link.taken() == ["before", "y" * size, "after", "next"]
        assert late.taken() == ["x" * 80_000, "before", "y" * size, "after", "next"]


def test_nobody_is_there() -> None:
    with scene() as stage:
        stage.hub.broadcast("x")
        assert stage.loop.scheduled == []
        link = stage.link()
        stage.end_turn()
        assert link.taken() == []


# --- The log


def test_a_block_that_everybody_has_is_used_again(stage: Scene) -> None:
    """A broadcaster with quick readers allocates nothing, however much it sends."""
    links = [stage.link() for _ in range(3)]
    stage.hub.broadcast("x")
    stage.end_turn()
    kept = [id(each) for each in blocks(stage)]
    for i in range(300):
        stage.hub.broadcast(f"{i:1000}")
        stage.end_turn()
        for link in links:
            link.read()
        assert [id(each) for each in blocks(stage)] == kept, i
    for link in links:
        assert link.taken() == ["x", *(f"{i:1000}" for i in range(300))]


def test_a_block_that_somebody_waits_for_is_not_used_again(stage: Scene) -> None:
    link, late = stage.link(), stalled(stage)
    sent = [f"{i:1000}" for i in range(300)]
    for each in sent:
        stage.hub.broadcast(each)
        stage.end_turn()
    assert len(blocks(stage)) == 1
    assert link.taken() == sent
    assert late.taken() == ["x" * 80_000, *sent]


def test_a_large_block_is_not_kept(stage: Scene) -> None:
    stage.link()
    stage.hub.broadcast("x" * 200_000)
    stage.end_turn()
    assert [each for each in gc.get_referents(stage.hub) if type(each) is Fanout]
    stage.hub.broadcast("y")
    stage.end_turn()
    assert [each.room for each in blocks(stage)] == [1 << 16]  # type: ignore[attr-defined]


def test_partial_sends_go_on_where_they_stopped(direct: bool) -> None:
    with scene(direct=direct, max_backlog=1 << 30) as stage:
        links = [stage.link(send_buffer=SMALL_KERNEL + 700 * i, room=1000 * i + i) for i in range(10)]
        sent = [f"{i:05}" * 2000 for i in range(50)]
        for each in sent:
            stage.hub.broadcast(each)
            stage.end_turn()
            for link in links:
                link.read(3000)
                link.transport.writable(3000)
        for link in links:
            assert link.taken() == sent


def test_positions_count_every_byte(stage: Scene) -> None:
    """Much more than a block, in odd sizes: `buffered` of who has read all is 0, of who has not the sum."""
    chance = random.Random(3)
    with scene(direct=stage.direct, max_backlog=1 << 30) as unbounded:
        link, late = unbounded.link(), stalled(unbounded)
        before, total = late.connection.buffered, 0
        for _ in range(500):
            size = chance.choice([0, 1, 125, 126, 1000, 65_535, 65_536])
            unbounded.hub.broadcast("z" * size)
            total += size + (2 if size < 126 else 4 if size < 65_536 else 10)
            if chance.random() < 0.5:
                unbounded.end_turn()
                link.read_all()
            assert late.connection.buffered - before == total
        unbounded.end_turn()
        link.read_all()
        assert link.connection.buffered == 0
        assert len(link.stream) == total
        late.read_all()
        assert late.stream[80_010:] == link.stream


def test_limits_are_told() -> None:
    loop = Loop()
    try:
        fanout = Fanout(Turn(loop), Tally(), max_backlog=5, policy=2, slice=1)
        assert (fanout.max_backlog, fanout.policy, fanout.members) == (5, 2, [])
    finally:
        loop.close()


def test_the_sizes_of_one_message_are_those_of_another_frame(stage: Scene) -> None:
    """Frames that are dropped are told apart by their headers, of each length encoding."""
    with scene(direct=stage.direct, max_backlog=200_000, on_backlog="drop-newest") as bounded:
        late = stalled(bounded)
        sizes = [0, 125, 126, 60_000, 65_535, 65_536, 10, 70_000, 300, 5]
        for size in sizes:
            bounded.hub.broadcast("y" * size)
        bounded.end_turn()
        got = late.taken()[1:]
        assert got == ["y" * size for size in sizes[: len(got)]]
        assert 3 < len(got) < len(sizes)
        assert late.connection.dropped == len(sizes) - len(got)


def test_pairs_of_turns_and_readers(direct: bool) -> None:
    """A reader that comes and goes between empty and full sees every broadcast once."""
    with scene(direct=direct, max_backlog=1 << 30) as stage:
        link = stage.link(send_buffer=SMALL_KERNEL, room=5000)
        numbers: list[int] = []
        for i in range(2000):
            stage.hub.broadcast(f"{i:0{1 + i * 7 % 300}}")
            if i % 7 == 0:
                stage.end_turn()
            if i % 31 == 0:
                link.transport.writable(5000)
                link.read(4000)
            if i % 400 == 0:
                stage.end_turn()
                numbers += [int(each) for each in link.taken()]
        stage.end_turn()
        numbers += [int(each) for each in link.taken()]
        assert all(one + 1 == other for one, other in pairwise(numbers))
        assert len(numbers) == 2000


# --- A round that is interrupted

AT_ONCE = 1e-9
"""Seconds that are over at the first look at the clock."""

LOOK = 32
"""Members between two looks; through a transport it is looked at behind each."""


def crowd(stage: Scene, size: int) -> list[Link]:
    return [stage.link() for _ in range(size)]


def end_all_turns(stage: Scene, links: list[Link]) -> None:
    stage.end_turn(3 * len(links))


def test_a_round_is_interrupted_and_goes_on(direct: bool) -> None:
    with scene(direct=direct, fanout_slice=AT_ONCE) as stage:
        links = crowd(stage, 3 * LOOK)
        step = LOOK if direct else 1
        stage.hub.broadcast("x")
        for served in range(step, len(links) + 1, step):
            stage.end_turn()
            assert [link.taken() for link in links[served - step : served]] == [["x"]] * step
            assert not any(link.taken() for link in links), "the others have to wait for the next turn"


def test_others_are_served_in_between(direct: bool) -> None:
    with scene(direct=direct, fanout_slice=AT_ONCE) as stage:
        links = crowd(stage, 3 * LOOK)
        stage.hub.on_message = lambda conn, message: conn.send(message)
        stage.hub.broadcast("x")
        stage.end_turn()
        links[-1].receive(text("echo"))
        stage.end_turn()
        assert links[-1].taken() == ["x", "echo"], "the broadcast came first"
        assert links[-2].taken() == []
        end_all_turns(stage, links)
        assert links[-1].taken() == []
        assert [link.taken() for link in links[:-1]] == [["x"]] * (len(links) - 1)


def test_what_is_broadcast_meanwhile_is_the_next_rounds(direct: bool) -> None:
    with scene(direct=direct, fanout_slice=AT_ONCE) as stage:
        links = crowd(stage, 2 * LOOK)
        stage.hub.broadcast("one")
        stage.end_turn()
        stage.hub.broadcast("two")
        stage.hub.broadcast("three")
        assert links[0].taken() == ["one"]
        end_all_turns(stage, links)
        assert links[0].taken() == ["two", "three"]
        assert [link.taken() for link in links[1:]] == [["one", "two", "three"]] * (len(links) - 1)


def test_too_much_is_sent_without_interruption(direct: bool) -> None:
    """Or else the log of who broadcasts without end would grow without end."""
    with scene(direct=direct, fanout_slice=AT_ONCE) as stage:
        links = crowd(stage, 2 * LOOK)
        stage.hub.broadcast("x")
        stage.end_turn()
        for _ in range(5):
            stage.hub.broadcast("y" * 60_000)
        assert all(link.taken() == ["x", *["y" * 60_000] * 5] for link in links)
        assert len(blocks(stage)) == 1


@pytest.mark.parametrize("seed", range(8))
def test_anything_at_all_between_slices(direct: bool, seed: int) -> None:
    with scene(direct=direct, fanout_slice=AT_ONCE, max_backlog=1 << 26, close_timeout=1e6) as stage:
        story = ComingAndGoing(stage, seed, LOOK)
        story.tell(600)
        story.assert_complete()
        assert len(blocks(stage)) <= 1
