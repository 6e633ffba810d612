"""io/out/backlog: the oldest frames make way for newer ones; what has begun to be sent, and signs of life, stay."""

import threading
import tracemalloc
from collections.abc import Iterator

import pytest
from support.client import PING, PONG, TEXT, close_frame
from support.link import SMALL_KERNEL, Link, Scene, closed_with, leave, ping, scene, stalled

from crest.io.out.backlog import Follower

LIMIT = 100_000
SLICE = 1 << 16
"""Bytes that a transport has at most: they count as sent."""


@pytest.fixture
def oldest(direct: bool) -> Iterator[Scene]:
    with scene(direct=direct, max_backlog=LIMIT, on_backlog="drop-oldest") as made:
        yield made


def numbered(count: int, size: int = 1000) -> list[str]:
    return [f"{i:0{size}}" for i in range(count)]


def assert_the_newest_came(link: Link, sent: list[str], first: str = "x" * 80_000) -> None:
    """The frame that had begun, and of what followed the end, of nearly as many bytes as may wait."""
    begun, *got = link.taken()
    assert begun == first
    assert got == sent[len(sent) - len(got) :]
    assert len(got) + link.connection.dropped == len(sent)
    size = sum(len(each) for each in got)
    assert LIMIT - 3 * len(sent[0]) - len(first) < size < LIMIT


@pytest.mark.parametrize("size", [10, 1000, 9000])
def test_the_oldest_make_way_for_sends(oldest: Scene, size: int) -> None:
    """Whether they are copied into small blocks or large ones, or referenced."""
    link, sent = stalled(oldest), numbered(200_000 // size, size)
    assert all(link.connection.send(each) for each in sent)
    assert link.connection.buffered <= LIMIT + SLICE
    assert_the_newest_came(link, sent)


@pytest.mark.parametrize("size", [10, 1000, 9000])
@pytest.mark.parametrize("a_turn", [1, 7, 1000])
def test_the_oldest_make_way_for_broadcasts(oldest: Scene, size: int, a_turn: int) -> None:
    link, other, sent = stalled(oldest), oldest.link(), numbered(200_000 // size, size)
    for i, each in enumerate(sent):
        oldest.hub.broadcast(each)
        if i % a_turn == 0:
            oldest.end_turn()
            other.read()
    oldest.end_turn()
    assert link.connection.buffered <= LIMIT + SLICE
    assert_the_newest_came(link, sent)
    assert other.taken() == sent


def test_sends_and_broadcasts_keep_their_order(oldest: Scene) -> None:
    link, sent = stalled(oldest), numbered(300)
    for i, each in enumerate(sent):
        oldest.hub.broadcast(each) if i % 3 else link.connection.send(each)
        if i % 5 == 0:
            oldest.end_turn()
    assert_the_newest_came(link, sent)
    assert link.connection.send("next")
    assert link.connection.buffered <= len("next") + 2
    oldest.end_turn()
    assert link.taken() == ["next"]


def test_one_that_never_fits_drops_nothing_but_itself(oldest: Scene) -> None:
    link, sent = stalled(oldest), numbered(10)
    assert all(link.connection.send(each) for each in sent)
    assert link.connection.send("y" * LIMIT) is False
    oldest.hub.broadcast("y" * LIMIT)
    oldest.hub.broadcast("small")
    oldest.end_turn()
    assert link.connection.dropped == 2
    assert link.taken() == ["x" * 80_000, *sent, "small"]


def test_what_has_begun_stays_however_large(oldest: Scene) -> None:
    """Nothing waited, so it was accepted; until it is sent, there is room for nothing else."""
    link = stalled(oldest, "x" * 5 * LIMIT)
    assert link.connection.send("y") is False
    oldest.hub.broadcast("z")
    oldest.end_turn()
    assert link.connection.dropped == 2
    assert link.taken() == ["x" * 5 * LIMIT]


@pytest.mark.parametrize("room", range(1, 31))
def test_what_the_transport_has_stays(room: int) -> None:
    with scene(max_backlog=40, on_backlog="drop-oldest") as stage:
        link = stage.link(room=room)
        stage.hub.broadcast("first message")
        stage.hub.broadcast("second message")
        stage.end_turn()
        for i in range(20):
            stage.hub.broadcast(f"number {i:02}")
            stage.end_turn()
        got = link.taken()
        assert got[:2] == ["first message", "second message"]
        assert 0 < len(got[2:]) < 20
        assert got[2:] == [f"number {i:02}" for i in range(22 - len(got), 20)]
        assert len(got) + link.connection.dropped == 22


@pytest.mark.parametrize("size", [7, 120, 130, 1001, 30_000])
def test_what_has_begun_in_a_round_stays(oldest: Scene, size: int) -> None:
    """The first send of a round ends in the middle of the log; the next round finds no room for anything else."""
    link, sent = oldest.link(send_buffer=SMALL_KERNEL, room=0), numbered(250_000 // size, size)
    for each in sent[: 200_000 // size]:
        oldest.hub.broadcast(each)
    oldest.end_turn()
    for each in sent[200_000 // size :]:
        oldest.hub.broadcast(each)
        oldest.end_turn()
    got = link.taken()
    assert sent[0] in got and sent[-1] in got
    assert sorted(set(got)) == got
    assert 0 < link.connection.dropped == len(sent) - len(got)
    place = {each: i for i, each in enumerate(sent)}
    (gap,) = {place[each] - i for i, each in enumerate(got)} - {0}
    assert gap == link.connection.dropped, "the oldest but for those that were sent"


@pytest.mark.parametrize("part", [1, 2, 3, 50, 999, 1004, 1005, 4000])
def test_partial_sends_end_anywhere(oldest: Scene, part: int) -> None:
    """The kernel takes a part of what waits again and again, and more comes than that: frames stay whole."""
    link, sent = stalled(oldest), numbered(600)
    for i, each in enumerate(sent):
        oldest.hub.broadcast(each) if i % 2 else link.connection.send(each)
        if i % 10 == 0:
            link.read(part)
            link.transport.writable(part)
            oldest.end_turn()
    begun, *got = link.taken()
    assert begun == "x" * 80_000
    assert got == sorted(set(got)), "in order, each once"
    assert got[-80:] == sent[-80:]
    assert len(got) + link.connection.dropped == len(sent)


# --- Signs of life


def test_the_newest_pong_stays(oldest: Scene) -> None:
    link, sent = stalled(oldest), numbered(300)
    for i in range(5):
        link.receive(ping(b"%d" % i))
        assert link.connection.send("between")
    assert all(link.connection.send(each) for each in sent)
    link.read_all()
    begun, pong, *texts = link.frames()
    assert (begun.opcode, pong.opcode, pong.payload) == (TEXT, PONG, b"4")
    assert [each.payload.decode() for each in texts] == sent[len(sent) - len(texts) :]
    assert link.connection.dropped == 4 + 5 + len(sent) - len(texts)


def test_so_does_the_newest_ping(oldest: Scene) -> None:
    link, sent = stalled(oldest), numbered(300)
    assert link.connection.ping() and link.connection.ping()
    link.receive(ping(b"pong"))
    assert all(link.connection.send(each) for each in sent)
    assert link.connection.ping()
    link.read_all()
    frames = link.frames()
    assert [each.opcode for each in frames[:3]] == [TEXT, PING, PONG]
    assert frames[-1].opcode == PING and {each.opcode for each in frames[3:-1]} == {TEXT}
    link.receive(b"")
    assert link.connection.latency is None


def test_pongs_alone_are_bounded(oldest: Scene) -> None:
    """A peer that only pings, and does not read, has as much memory as any other, and takes no time."""
    link = stalled(oldest)
    for _ in range(10):
        link.receive(ping(b"") * 40_000)
    assert link.connection.buffered <= LIMIT + SLICE
    assert link.connection.send("y")
    link.read_all()
    frames = link.frames()
    assert {each.opcode for each in frames[1:-1]} == {PONG}
    assert frames[-1].payload == b"y"
    assert len(frames) - 2 + link.connection.dropped == 400_000


def test_a_sign_of_life_makes_way_for_a_message_that_fills_the_room(oldest: Scene) -> None:
    link = stalled(oldest)
    link.receive(ping(b"p" * 100))
    refused = 0
    while not link.connection.send("y" * (LIMIT - 50 * refused)):
        refused += 1
    assert link.connection.dropped == refused + 1
    link.read_all()
    begun, message = link.frames()
    assert (begun.opcode, message.opcode) == (TEXT, TEXT)


def test_the_close_frame_follows_what_is_left(oldest: Scene) -> None:
    link = stalled(oldest)
    for each in numbered(300):
        assert link.connection.send(each)
    link.connection.close(4000)
    oldest.end_turn()
    assert closed_with(link) == 4000


# --- Memory, threads


def test_what_was_dropped_is_freed(oldest: Scene) -> None:
    link = stalled(oldest)
    tracemalloc.start()
    try:
        for i in range(3000):
            link.connection.send(f"{i:010000}")
            link.connection.send(f"{i:01000}")
            oldest.hub.broadcast(f"{i:01000}")
            link.receive(ping(b"p"))
            oldest.end_turn()
        assert tracemalloc.get_traced_memory()[0] < LIMIT + 4 * SLICE
    finally:
        tracemalloc.stop()


def test_a_thread_sends_the_newest(oldest: Scene) -> None:
    """What has not reached the loop yet is bounded too: there nothing can make way."""
    link, sent = stalled(oldest), numbered(300)
    accepted: list[str] = []

    def work() -> None:
        accepted.extend(each for each in sent if link.connection.send(each))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert accepted == sent[: len(accepted)] and 90 <= len(accepted) <= 100
    assert link.connection.dropped == len(sent) - len(accepted)
    oldest.end_turn()
    _begun, *got = link.taken()
    assert got == accepted[len(accepted) - len(got) :]
    assert len(got) + link.connection.dropped == len(sent)


class Heard(Follower):
    """Notes how many connections the server has when it hears of a stop."""

    def __init__(self, stage: Scene) -> None:
        self.stage = stage
        self.stops: list[tuple[object, bool, int]] = []

    def stopped(self, outbox: object) -> None:
        self.stops.append((outbox, outbox.is_open(), self.stage.hub.connection_count()))  # type: ignore[attr-defined]


@pytest.mark.parametrize("how", ["close", "peer", "lost", "overflow"])
def test_a_follower_hears_of_the_stop_once(direct: bool, how: str) -> None:
    """When the outbox has left its fan-out already."""
    with scene(direct=direct, max_backlog=1000, on_backlog="close") as stage:
        link, other = stage.link(send_buffer=SMALL_KERNEL, room=1000), stage.link()
        follower = link.connection._follower = Heard(stage)
        if how == "close":
            link.connection.close()
        elif how == "peer":
            link.receive(close_frame(1000, ""))
        elif how == "overflow":
            for _ in range(200):
                link.connection.send("x" * 900)
                stage.end_turn()
        if how == "lost":
            leave(stage, link)
        stage.end_turn(3)
        assert follower.stops == [(link.connection, False, 1)]
        assert other.connection.is_open()
