"""crest.io.protocol: transport callbacks to events, and the closing handshake, step by step."""

import asyncio
import errno
import random
from typing import Any

import pytest
from client import BINARY, CLOSE, CONTINUATION, PONG, TEXT, Frame, close_frame, frame
from link import RESPONSE, Link, Loop, Opening, Scene, Site, Transport, closed_with, ping, scene, text, turn_of

from crest.io.hub import Hub
from crest.io.protocol import Protocol, ServerProtocol
from crest.io.turn import Turn

# --- Before it is a WebSocket


@pytest.fixture
def loop() -> Any:
    made = Loop()
    yield made
    made.close()


def opened(loop: Loop) -> tuple[ServerProtocol, Transport, Site, Opening]:
    site, transport = Site(), Transport(loop)
    protocol = ServerProtocol(turn_of(loop), site)
    transport.protocol = protocol
    protocol.connection_made(transport)
    return protocol, transport, site, site.openings[0]


def test_a_protocol_needs_a_turn() -> None:
    with pytest.raises(TypeError):
        Protocol(None, Site())


def test_asyncio_takes_it_for_a_buffered_protocol(loop: Loop) -> None:
    assert issubclass(ServerProtocol, asyncio.BufferedProtocol)
    assert not hasattr(ServerProtocol(Turn(loop), Site()), "__dict__")


def test_the_opening_gets_what_comes(loop: Loop) -> None:
    protocol, transport, site, opening = opened(loop)
    assert protocol.transport is transport
    for data in (b"GET", b" / "):
        memoryview(protocol.get_buffer(-1))[:3] = data
        protocol.buffer_updated(3)
    protocol.resume_writing()
    protocol.pause_writing()
    protocol.stop(1012, "")  # which is for WebSockets
    transport.end()
    loop.turn(2)
    assert opening.calls == [b"GET", b" / ", "resume_writing", "connection_lost"]
    assert site.gone == [protocol]
    assert protocol.transport is None


def test_an_opening_has_a_deadline(loop: Loop) -> None:
    protocol, transport, _, opening = opened(loop)
    protocol.set_deadline(3)
    protocol.set_deadline(2)
    loop.advance(1.9)
    assert opening.calls == []
    loop.advance(0.2)
    assert opening.calls == ["timed_out"]
    protocol.set_deadline(1)
    protocol.clear_deadline()
    loop.advance(10)
    assert opening.calls == ["timed_out"] and transport.calls == []


def test_the_deadline_of_an_opening_ends_with_it(loop: Loop) -> None:
    protocol, transport, *_ = opened(loop)
    protocol.set_deadline(3)
    transport.end()
    loop.turn(2)
    assert protocol.turn.clock.pending() == []
    protocol, transport, *_ = opened(loop)
    protocol.set_deadline(3)
    with scene() as stage:
        protocol.upgrade(stage.link().connection.__class__(), stage.hub, RESPONSE, b"")
    assert protocol.turn.clock.pending() == []


def test_an_opening_that_ends_without_an_upgrade(loop: Loop) -> None:
    protocol, transport, _, opening = opened(loop)
    protocol.close_opening()
    loop.turn()
    assert transport.calls == ["write_eof"], "so that the client can read what it was sent last"
    memoryview(protocol.get_buffer(-1))[:3] = b"GET"
    protocol.buffer_updated(3)
    protocol.stop(1012, "")
    assert opening.calls == []
    assert protocol.turn.clock.pending() == [5.0]
    loop.advance(5.1)
    assert transport.calls == ["write_eof", "abort"]
    loop.turn(2)
    assert protocol.turn.clock.pending() == []


def test_a_transport_without_half_closing(loop: Loop) -> None:
    protocol, transport, _, _ = opened(loop)
    transport.can_write_eof = lambda: False  # type: ignore[method-assign]
    protocol.close_opening()
    loop.turn()
    assert transport.calls == ["close"]


def test_frames_behind_the_request_are_read(stage: Scene) -> None:
    stage.hub.on_message = lambda conn, message: conn.send(message)
    link = stage.link(rest=text("1") + text("2") + text("3")[:3])
    link.receive(text("3")[3:])
    assert link.taken() == ["1", "2", "3"]


def test_a_response_behind_other_output(loop: Loop) -> None:
    """The transport still has an earlier response queued: nothing overtakes it."""
    site, transport = Site(), Transport(loop, room=5)
    protocol = ServerProtocol(Turn(loop), site)
    transport.protocol = protocol
    protocol.connection_made(transport)
    transport.write(b"HTTP/1.1 200 OK\r\n\r\n")
    with scene() as stage:
        link = stage.link()
        limits = {"max_message_size": 1, "max_fragments": 1, "max_backlog": 1000, "max_queue": 1}
        hub = Hub(**limits, on_backlog="close", close_timeout=1, fanout_slice=1)
        hub.open(protocol.turn)
        protocol.upgrade(link.connection.__class__(), hub, RESPONSE, b"")
        hub.broadcast("x")
        loop.turn()
        assert transport.wire == b"HTTP/"
        transport.writable()
        loop.turn()
        assert transport.wire == b"HTTP/1.1 200 OK\r\n\r\n" + RESPONSE + b"\x81\x01x"


# --- Reading


@pytest.mark.parametrize("seed", range(10))
def test_any_split_of_the_stream_is_read_the_same(stage: Scene, seed: int) -> None:
    chance = random.Random(seed)
    got: list[object] = []
    stage.hub.on_message = lambda conn, message: got.append(message)
    stage.hub.on_binary = lambda conn, data: got.append(data)
    wanted: list[object] = []
    stream = bytearray()
    for i in range(60):
        size = chance.choice([0, 1, 125, 126, 70_000]) if chance.random() < 0.8 else 600_000
        payload: Any = bytes([i]) * size
        opcode = chance.choice([TEXT, BINARY])
        if opcode == TEXT:
            payload = chance.choice(["a", "ä", "漢", "😀"]) * size
        wanted.append(payload)
        data = payload.encode() if opcode == TEXT else payload
        while chance.random() < 0.3:
            cut = chance.randint(0, len(data))
            stream += frame(opcode, data[:cut], fin=False)
            if chance.random() < 0.3:
                stream += ping(b"between")
            opcode, data = CONTINUATION, data[cut:]
        stream += frame(opcode, data)
    link = stage.link()
    while stream:
        size = chance.choice([1, 2, 100, 5000, 300_000])
        link.receive(bytes(stream[:size]))
        del stream[:size]
    assert got == wanted
    link.read_all()
    assert {each.opcode for each in link.frames()} <= {PONG}


def test_a_large_message_is_read_into_place(stage: Scene) -> None:
    """The transport is given the message's own memory, not the buffer that all share."""
    got: list[str] = []
    stage.hub.on_message = lambda conn, message: got.append(message)
    link = stage.link()
    data = text("x" * 2_000_000)
    link.receive(data[:20])
    where = memoryview(link.protocol.get_buffer(-1))
    assert where.nbytes > 1_000_000
    link.receive(data[20:])
    assert got == ["x" * 2_000_000]
    shared = link.protocol.get_buffer(-1)
    shared[0] = 77
    assert stage.turn.read_buffer[0] == 77
    assert shared.nbytes == len(stage.turn.read_buffer)


def test_the_shared_buffer_may_be_written_slice_by_slice(stage: Scene) -> None:
    """As asyncio does over TLS, record by record."""
    got: list[str] = []
    stage.hub.on_message = lambda conn, message: got.append(message)
    link = stage.link()
    data = text("in two records")
    buffer = link.protocol.get_buffer(-1)
    buffer[:5], buffer[5:][: len(data) - 5] = data[:5], data[5:]
    link.protocol.buffer_updated(len(data))
    assert got == ["in two records"]


def test_pings_are_answered_in_order(stage: Scene) -> None:
    stage.hub.on_message = lambda conn, message: conn.send(message)
    link = stage.link()
    link.receive(ping(b"1") + text("2") + ping(b"") + frame(PONG, b"unasked") + ping(b"p" * 125))
    link.read_all()
    assert link.frames() == [
        Frame(PONG, b"1"), Frame(TEXT, b"2"), Frame(PONG, b""), Frame(PONG, b"p" * 125),
    ]  # fmt: skip


@pytest.mark.parametrize(("opcode", "registered"), [(TEXT, "on_binary"), (BINARY, "on_message")])
def test_a_kind_of_message_that_nobody_handles(stage: Scene, opcode: int, registered: str) -> None:
    setattr(stage.hub, registered, lambda conn, data: stage.events.append(("message", conn.link, data)))
    link = stage.link()
    link.receive(frame(opcode, b"x") + frame(3 - opcode, b"y"))
    (_, error), (_, code, reason) = stage.seen(link)
    assert (code, reason) == (1003, error)
    assert f"only {registered} is registered" in error
    assert closed_with(link) == 1003


# --- Closing


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


def test_a_handler_that_closes_in_on_connect(stage: Scene) -> None:
    stage.hub.on_connect = lambda conn: conn.send("no") and conn.close(4003, "go away")
    stage.hub.on_message = lambda conn, message: stage.events.append(("message", conn.link, message))
    link = stage.link(rest=text("x"))
    link.receive(text("y") + close_frame(4003))
    link.read_all()
    assert link.frames() == [Frame(TEXT, b"no"), Frame(CLOSE, b"\x0f\xa3go away")]
    assert stage.seen(link) == [("close", 4003, "")]


def test_links_are_told_apart(stage: Scene) -> None:
    links: list[Link] = [stage.link() for _ in range(3)]
    links[1].connection.send("x")
    stage.end_turn()
    assert [link.taken() for link in links] == [[], ["x"], []]
