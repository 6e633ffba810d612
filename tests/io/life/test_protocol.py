"""crest.io.life.protocol: transport callbacks to events, step by step."""

import asyncio
import random
from typing import Any

import pytest
from support.client import BINARY, CLOSE, CONTINUATION, PONG, TEXT, Frame, close_frame, frame
from support.link import RESPONSE, Link, Loop, Opening, Scene, Site, Transport, closed_with, ping, scene, text, turn_of

from crest.io.life.protocol import Protocol, ServerProtocol
from crest.io.loop.turn import Turn
from crest.io.out.hub import Hub

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
