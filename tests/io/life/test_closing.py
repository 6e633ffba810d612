"""crest.io.life.closing: the closing handshake, and the end of the TCP connection."""

import errno
from typing import Any

from support.client import BINARY, CLOSE, TEXT, Frame, close_frame, frame
from support.link import Scene, ping, scene, text


def test_the_peer_closes(stage: Scene) -> None:
    link = stage.link()
    link.connection.send("before")
    link.receive(close_frame(4000, "bye") + text("after"))
    link.receive(text("after"))
    assert stage.seen(link) == [("close", 4000, "bye")]
    assert not link.connection.is_open() and stage.hub.connection_count() == 0
    link.read_all()
    assert link.frames() == [Frame(TEXT, b"before"), Frame(CLOSE, b"\x0f\xa0bye")]
    stage.end_turn()
    assert link.transport.calls == ["write_eof"]
    assert stage.pending() == [10.0]
    link.transport.end()
    stage.end_turn(2)
    assert stage.pending() == []
    assert stage.site.gone == [link.protocol]
    assert stage.seen(link) == [("close", 4000, "bye")]


def test_the_peer_closes_without_a_code(stage: Scene) -> None:
    link = stage.link()
    link.receive(close_frame())
    link.read_all()
    assert link.frames() == [Frame(CLOSE, b"")]
    assert stage.seen(link) == [("close", 1005, "")]


def test_this_side_closes(stage: Scene) -> None:
    link = stage.link()
    link.connection.close(4000, "bye")
    stage.end_turn()
    link.read_all()
    assert link.frames() == [Frame(CLOSE, b"\x0f\xa0bye")]
    assert stage.seen(link) == [] and link.transport.calls == []
    link.receive(text("ignored") + ping(b"ignored") + close_frame(4001, "you too"))
    assert stage.seen(link) == [("close", 4001, "you too")]
    stage.end_turn()
    assert link.transport.calls == ["write_eof"]
    link.read_all()
    assert link.frames() == []


def test_a_peer_that_never_answers_is_cut_off(stage: Scene) -> None:
    link = stage.link()
    link.connection.close(4000)
    assert stage.pending() == [10.0]
    stage.loop.advance(9)
    assert stage.seen(link) == []
    stage.loop.advance(2)
    stage.end_turn(2)
    assert link.transport.calls == ["abort"]
    assert stage.seen(link) == [("close", 1006, "")]
    assert stage.pending() == []


def test_a_peer_that_answers_and_never_ends_is_cut_off(stage: Scene) -> None:
    link = stage.link()
    link.connection.close(4000)
    stage.loop.advance(9)
    link.receive(close_frame(4000))
    stage.end_turn()
    assert stage.pending() == [10.0], "it begins anew"
    stage.loop.advance(10.1)
    stage.end_turn(2)
    assert link.transport.calls == ["write_eof", "abort"]
    assert stage.seen(link) == [("close", 4000, "")]


def test_messages_after_close_are_not_handled(stage: Scene) -> None:
    got: list[str] = []

    def answer(conn: Any, message: str) -> None:
        got.append(message)
        conn.close(4000)

    stage.hub.on_message = answer
    link = stage.link()
    link.receive(text("1") + text("2") + frame(3))
    assert got == ["1"]
    assert stage.seen(link)[-1][:2] == ("close", 1002), "what breaks the protocol still does"
    link.read_all()
    assert link.frames() == [Frame(CLOSE, b"\x0f\xa0")], "there is one close frame"


def test_a_failure_is_told_once(stage: Scene) -> None:
    link = stage.link()
    link.receive(text("x") + frame(3) + frame(4))
    link.receive(frame(5) + close_frame(1000))
    (_, error), (_, code, reason) = stage.seen(link)
    assert (code, reason) == (1002, error)
    assert error == "frame 2: opcode 0x3 is reserved"
    assert error.exception is None
    link.read_all()
    assert link.frames() == [Frame(CLOSE, b"\x03\xea" + error.encode())]
    assert link.transport.reading, "what a peer floods is read, so that nothing resets the connection"


def test_the_end_of_the_stream_waits_for_what_waits(direct: bool) -> None:
    with scene(direct=direct, max_backlog=1 << 30) as stage:
        link = stage.link(send_buffer=4608, room=0)
        link.connection.send("x" * 200_000)
        link.connection.send("y")
        link.receive(close_frame(1000))
        assert link.transport.calls == []
        link.read_all()
        stage.end_turn()
        assert [len(each.payload) for each in link.frames()] == [200_000, 1, 2]
        assert link.transport.calls == ["write_eof"]


def test_a_peer_that_does_not_read_its_end_is_cut_off(direct: bool) -> None:
    with scene(direct=direct, max_backlog=1 << 30) as stage:
        link = stage.link(send_buffer=4608, room=0)
        link.connection.send("x" * 200_000)
        link.receive(close_frame(1000))
        stage.loop.advance(10.1)
        stage.end_turn(2)
        assert link.transport.calls == ["abort"]
        assert stage.seen(link) == [("close", 1000, "")]
        assert stage.site.gone == [link.protocol]


def test_a_half_that_can_not_be_closed(stage: Scene) -> None:
    """The peer has gone meanwhile, and asyncio's transport raises what shutdown(2) says."""

    def not_connected() -> None:
        raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")

    link = stage.link()
    link.transport.write_eof = not_connected  # type: ignore[method-assign]
    link.connection.send("x")
    link.receive(close_frame(1000))
    stage.end_turn(2)
    link.transport.end()
    stage.end_turn(2)
    assert stage.seen(link) == [("close", 1000, "")]
    assert stage.site.gone == [link.protocol]


def test_little_is_handed_to_a_transport_that_has_ended(stage: Scene) -> None:
    """The protocol hears of it in the next turn only; asyncio warns of each write from the fifth on."""
    link = stage.link()
    link.transport.end()
    if stage.direct:
        link.peer.close()
    for _ in range(20):
        link.connection.send("x" * 100_000)
        stage.hub.broadcast("y" * 100_000)
    assert link.transport.ignored < 5
    stage.end_turn(2)
    assert stage.seen(link) == [("close", 1006, "")]


def test_the_peer_ends_the_stream(stage: Scene) -> None:
    link = stage.link()
    link.receive(text("x")[:3])
    assert not link.protocol.eof_received(), "the transport closes"
    link.transport.close()
    stage.end_turn(2)
    assert stage.seen(link) == [("close", 1006, "")]


def test_a_lost_connection(stage: Scene) -> None:
    link = stage.link()
    link.transport.end(ConnectionResetError())
    stage.end_turn(2)
    assert stage.seen(link) == [("close", 1006, "")]
    assert stage.site.gone == [link.protocol]
    assert stage.hub.connection_count() == 0


def test_lost_while_it_closes(stage: Scene) -> None:
    link = stage.link()
    link.connection.close(4000)
    link.transport.end()
    stage.end_turn(3)
    assert stage.seen(link) == [("close", 1006, "")]
    assert stage.pending() == []


def test_closing_a_lost_connection_does_nothing(stage: Scene) -> None:
    link = stage.link()
    link.transport.end()
    stage.end_turn(2)
    link.connection.close()
    link.protocol.stop(1012, "")
    link.protocol.end_now()
    stage.end_turn(2)
    assert stage.seen(link) == [("close", 1006, "")]


def test_shutdown_closes(stage: Scene) -> None:
    link = stage.link()
    link.protocol.stop(1012, "retry-after=1")
    link.protocol.stop(1012, "retry-after=2")
    stage.end_turn()
    link.read_all()
    assert link.frames() == [Frame(CLOSE, b"\x03\xf4retry-after=1")]


def test_end_now_cuts_and_cancels(stage: Scene) -> None:
    async def forever(conn: object, message: str) -> None:
        await stage.loop.create_future()

    stage.hub.on_message = forever
    link = stage.link()
    link.receive(text("x") + text("y"))
    link.protocol.end_now()
    stage.end_turn(5)
    assert stage.seen(link) == [("close", 1006, "")]
    assert stage.site.gone == [link.protocol]


def test_a_reason_is_cut_to_what_a_close_frame_can_carry(stage: Scene) -> None:
    """Between characters, not within one."""
    stage.hub.on_message = lambda conn, message: None
    link = stage.link()
    link.receive(frame(BINARY, b"x"))
    link.read_all()
    (close,) = link.frames()
    assert len(close.payload) <= 125
    assert stage.seen(link)[-1][2].startswith(close.reason)
