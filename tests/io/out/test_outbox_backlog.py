"""crest.io.out.outbox: the bound on what waits for a slow reader, from the loop's thread and from others."""

import threading
from collections.abc import Iterator

import pytest
from support.client import CLOSE, PING, PONG, Frame, close_frame
from support.link import SMALL_KERNEL, Scene, closed_with, ping, scene, stalled


@pytest.fixture
def dropping(direct: bool) -> Iterator[Scene]:
    with scene(direct=direct, max_backlog=200_000, on_backlog="drop-newest") as made:
        yield made


@pytest.fixture
def closing(direct: bool) -> Iterator[Scene]:
    with scene(direct=direct, max_backlog=200_000) as made:
        yield made


def test_a_message_over_the_bound_is_sent_when_nothing_waits(dropping: Scene) -> None:
    link = dropping.link(send_buffer=SMALL_KERNEL, room=0)
    assert link.connection.send("y" * 500_000)
    dropping.end_turn()
    assert link.connection.dropped == 0
    assert not link.connection.send("z")
    assert link.taken() == ["y" * 500_000]


def test_a_broadcast_over_the_bound_is_sent_when_nothing_waits(dropping: Scene) -> None:
    link = dropping.link(send_buffer=SMALL_KERNEL, room=0)
    dropping.hub.broadcast("y" * 500_000)
    dropping.end_turn()
    assert link.connection.dropped == 0
    dropping.hub.broadcast("z")
    dropping.end_turn()
    assert link.connection.dropped == 1
    assert link.taken() == ["y" * 500_000]


def test_drop_drops_the_newest_and_goes_on_when_there_is_room(dropping: Scene) -> None:
    link, other = stalled(dropping), dropping.link()
    conn = link.connection
    accepted = []
    while conn.send(f"{len(accepted):05}" * 1000):
        accepted.append(f"{len(accepted):05}" * 1000)
    assert conn.buffered <= 200_000
    assert conn.dropped == 1
    assert conn.send("small") and not conn.send("large" * 1000)
    assert conn.dropped == 2
    dropping.hub.broadcast("broadcast" * 1000)
    dropping.end_turn()
    assert conn.dropped == 3
    assert conn.is_open() and not dropping.events
    assert link.taken() == ["x" * 80_000, *accepted, "small"]
    assert other.taken() == ["broadcast" * 1000]
    assert conn.send("again" * 1000)
    dropping.hub.broadcast("again")
    dropping.end_turn()
    assert link.taken() == ["again" * 1000, "again"]
    assert conn.dropped == 3


def test_of_several_broadcasts_those_are_dropped_that_do_not_fit(dropping: Scene) -> None:
    link = stalled(dropping)
    for i in range(40):
        dropping.hub.broadcast(f"{i:05}" * 1000)
    dropping.end_turn()
    got = link.taken()
    assert got == ["x" * 80_000, *[f"{i:05}" * 1000 for i in range(len(got) - 1)]]
    assert 15 < len(got) < 40
    assert link.connection.dropped == 41 - len(got)


def test_close_says_why_and_closes_once(closing: Scene) -> None:
    link, other = stalled(closing), closing.link()
    conn = link.connection
    sent = ["x" * 80_000]
    while conn.send("y" * 10_000):
        sent.append("y" * 10_000)
    assert not conn.is_open()
    assert closing.events == [], "no handler runs within send"
    assert conn.send("z") is False
    closing.hub.broadcast("others")
    closing.end_turn(2)
    (what, why), (last, code, reason) = closing.seen(link)
    assert (what, last, code) == ("error", "close", 1013)
    assert "max_backlog" in why and "200000" in why and reason == why
    assert why.exception is None
    link.read_all()
    *frames, close = link.frames()
    assert [each.payload.decode() for each in frames] == sent
    assert (close.opcode, close.code, close.reason) == (CLOSE, 1013, why)
    link.receive(close_frame(1013))
    link.transport.end()
    closing.end_turn(3)
    assert len(closing.seen(link)) == 2
    assert other.taken() == ["others"]
    assert closing.hub.connections() == [other.connection]


def test_broadcasts_over_the_bound_close_too(closing: Scene) -> None:
    link, other = stalled(closing), closing.link()
    for i in range(40):
        closing.hub.broadcast(f"{i:05}" * 1000)
    closing.end_turn(3)
    assert [event[0] for event in closing.seen(link)] == ["error", "close"]
    assert other.taken() == [f"{i:05}" * 1000 for i in range(40)]
    link.read_all()
    frames = link.frames()
    assert frames[-1].code == 1013
    assert [each.payload.decode() for each in frames[1:-1]] == [f"{i:05}" * 1000 for i in range(len(frames) - 2)]


def test_nothing_is_accepted_once_a_broadcast_was_too_much(closing: Scene) -> None:
    """A send that would fit does not overtake the broadcast that did not: the connection is closing."""
    link = stalled(closing)
    closing.hub.broadcast("b" * 150_000)
    accepted = link.connection.send("small")
    assert accepted == link.connection.is_open()
    closing.end_turn(2)
    link.read_all()
    assert [each.payload[:5] for each in link.frames()[:-1]] == [b"xxxxx"]


def test_closing_with_broadcasts_over_the_bound_says_so(closing: Scene) -> None:
    """They are lost: the peer must not take it for a normal closure."""
    link = stalled(closing)
    closing.hub.broadcast("b" * 150_000)
    link.connection.close(1000)
    closing.end_turn(2)
    assert [event[:2] for event in closing.seen(link)][1:] == [("close", 1013)]
    assert closed_with(link) == 1013


def test_pongs_to_a_peer_that_does_not_read_are_bounded(closing: Scene) -> None:
    link = stalled(closing)
    link.receive(ping(b"p" * 125) * 3000)
    closing.end_turn(2)
    assert link.connection.buffered <= 200_000 + 200
    assert [event[:3] for event in closing.seen(link)][1][:2] == ("close", 1013)


def test_pongs_are_dropped_too(dropping: Scene) -> None:
    link = stalled(dropping)
    link.receive(ping(b"p" * 125) * 3000)
    assert link.connection.buffered <= 200_000
    assert link.connection.dropped > 1000
    link.read_all()
    frames = link.frames()
    assert set(frames[1:]) == {Frame(PONG, b"p" * 125)}
    assert len(frames) - 1 + link.connection.dropped == 3000


def test_the_close_frame_is_not_subject_to_the_bound(dropping: Scene) -> None:
    link = stalled(dropping)
    while link.connection.send("x" * 1000):
        pass
    link.connection.close(4000)
    dropping.end_turn()
    assert closed_with(link) == 4000


# --- Threads


def in_thread(call: object, *args: object) -> object:
    """What a call returns in another thread."""
    results: list[object] = []
    thread = threading.Thread(target=lambda: results.append(call(*args)))  # type: ignore[operator]
    thread.start()
    thread.join()
    return results[0]


def test_a_thread_sends_in_order_and_the_loop_delivers(stage: Scene) -> None:
    link = stage.link()
    data = bytearray(b"c" * 10)

    def work() -> list[bool]:
        accepted = [link.connection.send(str(i)) for i in range(100)] + [link.connection.send_binary(data)]
        data[:] = b"d" * 10
        stage.hub.broadcast("all")
        link.connection.close(4000)
        return accepted

    assert in_thread(work) == [True] * 101
    assert not any(link.read()), "only the loop's thread sends"
    stage.end_turn(2)
    link.read_all()
    *texts, binary, broadcast, close = link.frames()
    assert [each.payload for each in texts] == [b"%d" % i for i in range(100)]
    assert (binary.payload, broadcast.payload, close.code) == (b"c" * 10, b"all", 4000)


def test_a_thread_is_bounded_while_the_peer_does_not_read(dropping: Scene) -> None:
    link = stalled(dropping)

    def work() -> list[bool]:
        return [link.connection.send("t" * 10_000) for _ in range(30)]

    accepted = in_thread(work)
    assert isinstance(accepted, list)
    assert accepted.count(False) > 15
    assert link.connection.dropped == accepted.count(False)
    dropping.end_turn(2)
    assert link.connection.buffered <= 200_000
    got = link.taken()
    assert len(got) + link.connection.dropped == 31
    link.transport.room = 0
    link.connection.send("x" * 80_000)
    dropping.end_turn()
    assert link.connection.buffered > 10_000
    assert in_thread(link.connection.send, "t" * 10_000) is True, "what was posted has been counted off"


def test_a_thread_closes_with_the_policy(closing: Scene) -> None:
    link = stalled(closing)
    in_thread(lambda: [link.connection.send("t" * 10_000) for _ in range(30)])
    closing.end_turn(3)
    link.read_all()
    *messages, close = link.frames()
    assert close.code == 1013
    assert [event[0] for event in closing.seen(link)] == ["error", "close"]
    assert len(messages) + link.connection.dropped == 31, "what was accepted, and came too late, counts too"


def test_a_thread_gets_type_and_value_errors_at_once(stage: Scene) -> None:
    conn = stage.link().connection

    def work() -> list[type]:
        caught = []
        for call in (lambda: conn.send(b"x"), lambda: conn.send_binary("x"), lambda: conn.close(1005)):
            try:
                call()
            except (TypeError, ValueError) as error:
                caught.append(type(error))
        return caught

    assert in_thread(work) == [TypeError, TypeError, ValueError]


def test_a_thread_pings(stage: Scene) -> None:
    link = stage.link()
    assert in_thread(link.connection.ping) is True
    stage.end_turn(2)
    link.read_all()
    assert [each.opcode for each in link.frames()] == [PING]


def test_a_thread_after_the_loop_has_closed() -> None:
    with scene() as stage:
        link = stage.link()
    link.connection.close()
    assert in_thread(link.connection.send, "x") is False
    assert in_thread(link.connection.ping) is False
    assert in_thread(stage.hub.broadcast, "x") is None
