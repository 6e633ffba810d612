"""crest.io.out.outbox: what leaves in one send, whose memory it is until then, and what handlers are told."""

import array
import socket
import tracemalloc

import pytest
from support.client import BINARY, CLOSE, TEXT, Frame, close_frame
from support.link import SMALL_KERNEL, Link, Scene, ping, scene, text

# --- What leaves in one send


def packet_link(stage: Scene) -> Link:
    """A link whose peer sees what was sent in one call as one chunk."""
    link = stage.link(kind=socket.SOCK_SEQPACKET)
    link.transport.writes.clear()
    return link


def sends(link: Link) -> list[bytes]:
    """What was sent since, one item for each call."""
    chunks = link.read()
    writes, link.transport.writes = link.transport.writes, []
    return chunks if link.scene.direct else writes


def test_answers_to_the_frames_of_one_chunk_leave_together(stage: Scene) -> None:
    stage.hub.on_message = lambda conn, message: conn.send(message)
    link = packet_link(stage)
    link.receive(text("one") + ping(b"two") + text("three"))
    assert sends(link) == [b"\x81\x03one\x8a\x03two\x81\x05three"], "before the turn has ended"


def test_sends_of_one_turn_leave_together(stage: Scene) -> None:
    one, other = packet_link(stage), packet_link(stage)
    one.connection.send("a")
    other.connection.send("b")
    one.connection.send_binary(b"c")
    assert (sends(one), sends(other)) == ([], [])
    stage.end_turn()
    assert (sends(one), sends(other)) == ([b"\x81\x01a\x82\x01c"], [b"\x81\x01b"])


def test_what_others_are_sent_by_a_handler_leaves_at_the_end_of_the_turn(stage: Scene) -> None:
    one, other = packet_link(stage), packet_link(stage)
    stage.hub.on_message = lambda conn, message: other.connection.send(message)
    one.receive(text("a") + text("b"))
    one.receive(text("c"))
    stage.end_turn()
    assert sends(other) == [b"\x81\x01a\x81\x01b\x81\x01c"]
    assert sends(one) == []


def test_the_response_leaves_with_what_on_connect_sends(stage: Scene) -> None:
    stage.hub.on_connect = lambda conn: conn.send("welcome")
    link = stage.link(kind=socket.SOCK_SEQPACKET)
    assert link.frames() == [Frame(TEXT, b"welcome")]
    if not stage.direct:
        assert len(link.transport.writes) == 1


def test_much_output_does_not_wait_for_the_end_of_the_turn(stage: Scene) -> None:
    link = stage.link()
    link.connection.send("x" * 60_000)
    assert not any(link.read())
    link.connection.send("y" * 6_000)
    link.read_all()
    assert [len(each.payload) for each in link.frames()] == [60_000, 6_000]


def test_more_than_an_iovec_holds(direct: bool) -> None:
    """Large messages are pieces of their own, two each: send(2) takes them 64 at a time."""
    with scene(direct=direct, max_backlog=1 << 30) as unbounded:
        link = unbounded.link(send_buffer=SMALL_KERNEL, room=100)
        unbounded.hub.broadcast("first" * 5000)
        messages = [str(i) * 9000 for i in range(200)]
        for message in messages:
            link.connection.send(message)
        unbounded.end_turn()
        assert link.taken() == ["first" * 5000, *messages]


# --- Memory of messages


@pytest.mark.parametrize("size", [0, 125, 126, 8191, 8192, 8193, 65535, 65536, 400_000])
def test_a_buffer_may_be_changed_when_the_call_returns(stage: Scene, size: int) -> None:
    link = stage.link(send_buffer=SMALL_KERNEL, room=10)
    data = bytearray(b"a" * size)
    assert link.connection.send_binary(data)
    data[:] = b"b" * size
    assert link.connection.send_binary(memoryview(data)[:5])
    data[:] = b"c" * size
    stage.end_turn()
    link.read_all()
    assert link.frames() == [Frame(BINARY, b"a" * size), Frame(BINARY, b"b" * min(5, size))]


def test_bytes_like_objects_of_any_layout(stage: Scene) -> None:
    link = stage.link()
    link.connection.send_binary(memoryview(b"abcdef")[::2])
    link.connection.send_binary(array.array("H", [1, 2]))
    stage.end_turn()
    link.read_all()
    assert [each.payload for each in link.frames()] == [b"ace", array.array("H", [1, 2]).tobytes()]


def test_a_large_payload_is_not_copied(direct: bool) -> None:
    """Its own memory is what waits: a hundred connections that wait for it cost no more than one."""
    with scene(direct=direct, max_backlog=1 << 30) as unbounded:
        links = [unbounded.link(send_buffer=SMALL_KERNEL, room=0) for _ in range(20)]
        data = bytes(4 << 20)
        tracemalloc.start()
        try:
            for link in links:
                link.connection.send_binary(data)
                assert link.connection.buffered > len(data) - (1 << 16)
            assert tracemalloc.get_traced_memory()[0] < 20 << 18
        finally:
            tracemalloc.stop()


def test_a_large_text_lives_as_long_as_it_waits(stage: Scene) -> None:
    link = stage.link(send_buffer=SMALL_KERNEL, room=0)
    for i in range(20):
        assert link.connection.send(chr(0x100 + i) * 20_000)
    stage.end_turn()
    assert link.taken() == [chr(0x100 + i) * 20_000 for i in range(20)]


def test_small_sends_of_many_connections_overflow_the_arena(stage: Scene) -> None:
    """256 KiB of small frames and more, within one turn, to connections that take them and some that do not."""
    links = [stage.link() if i % 3 else stage.link(send_buffer=SMALL_KERNEL, room=50) for i in range(30)]
    sent = [f"{i} " + "x" * (i % 190) for i in range(300)]
    for message in sent:
        for link in links:
            assert link.connection.send(message)
    assert any(links[1].read()), "what did not fit into the arena has left before the turn's end"
    stage.end_turn()
    for link in links:
        assert link.taken() == sent


def test_the_arena_overflows_within_a_handler(stage: Scene) -> None:
    stage.hub.on_message = lambda conn, message: [conn.send(f"{message} {i}" + "." * 4000) for i in range(100)]
    link = stage.link(send_buffer=SMALL_KERNEL, room=1000)
    link.receive(text("a") + text("b"))
    assert link.connection.is_open()
    assert link.taken() == [f"{message} {i}" + "." * 4000 for message in "ab" for i in range(100)]


def test_a_slow_reader_costs_little_more_than_what_is_buffered(stage: Scene) -> None:
    """Small sends between small broadcasts: `buffered` is what the backlog bounds, so memory must go with it."""
    link = stage.link(send_buffer=SMALL_KERNEL, room=0)
    link.connection.send("x" * 100_000)
    stage.end_turn()
    before = link.connection.buffered
    tracemalloc.start()
    try:
        for _ in range(5000):
            link.connection.send("own")
            stage.hub.broadcast("all")
            stage.end_turn()
        cost = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert link.connection.buffered - before == 5000 * 2 * 5
    assert cost < 20 * 50_000 + (1 << 18)


def test_what_the_kernel_does_not_take_at_the_end_of_a_turn_costs_little_more_than_its_size(stage: Scene) -> None:
    """Small sends to two connections in turns lie scattered over the arena."""
    links = [stage.link(send_buffer=SMALL_KERNEL, room=0) for _ in range(2)]
    tracemalloc.start()
    try:
        for _ in range(10_000):
            for link in links:
                link.connection.send("x")
        stage.end_turn()
        cost = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert sum(link.connection.buffered for link in links) <= 60_000
    assert cost < 20 * 60_000 + (1 << 18)
    assert links[0].taken() == links[1].taken() == ["x"] * 10_000


# --- What handlers are told


def test_wrong_types_name_the_right_method(stage: Scene) -> None:
    conn = stage.link().connection
    with pytest.raises(TypeError, match=r"send\(\) takes str, not bytes; send_binary\(\) takes bytes"):
        conn.send(b"x")
    with pytest.raises(TypeError, match=r"send_binary\(\) takes a bytes-like object, not str; send\(\) takes str"):
        conn.send_binary("x")
    with pytest.raises(TypeError):
        conn.send_binary(5)
    with pytest.raises(TypeError):
        conn.send(None)
    with pytest.raises(UnicodeEncodeError):
        conn.send("\ud800")


def test_a_refused_type_leaves_nothing_behind(stage: Scene) -> None:
    link = stage.link()
    for wrong in (b"x", None, "\ud800"):
        with pytest.raises((TypeError, UnicodeEncodeError)):
            link.connection.send(wrong)
    link.connection.send("right")
    stage.end_turn()
    assert link.taken() == ["right"]


@pytest.mark.parametrize("code", [-1, 0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65536, 1 << 40])
def test_codes_that_may_not_be_sent(stage: Scene, code: int) -> None:
    conn = stage.link().connection
    with pytest.raises(ValueError, match="may not be sent"):
        conn.close(code)
    assert conn.is_open()


@pytest.mark.parametrize("code", [1000, 1003, 1007, 1014, 3000, 4999])
def test_codes_that_may_be_sent(stage: Scene, code: int) -> None:
    link = stage.link()
    link.connection.close(code, "ü" * 61)
    stage.end_turn()
    link.read_all()
    assert link.frames() == [Frame(CLOSE, code.to_bytes(2, "big") + ("ü" * 61).encode())]


def test_reasons_that_may_not_be_sent(stage: Scene) -> None:
    conn = stage.link().connection
    with pytest.raises(ValueError, match="124 bytes"):
        conn.close(1000, "ü" * 62)
    with pytest.raises(TypeError, match="int"):
        conn.close("1000")
    with pytest.raises(TypeError, match="str"):
        conn.close(1000, b"x")
    with pytest.raises(UnicodeEncodeError):
        conn.close(1000, "\udfff")
    assert conn.is_open()


def test_closing_ends_sending(stage: Scene) -> None:
    link = stage.link()
    conn = link.connection
    assert conn.send("before")
    conn.close()
    conn.close(4001, "twice")
    assert not conn.is_open()
    assert conn.send("after") is conn.send_binary(b"after") is conn.ping() is False
    with pytest.raises(ValueError):
        conn.close(1)
    stage.hub.broadcast("after")
    stage.end_turn()
    link.read_all()
    assert link.frames() == [Frame(TEXT, b"before"), Frame(CLOSE, b"\x03\xe8")]


def test_buffered_counts_what_the_kernel_has_not_taken(stage: Scene) -> None:
    link = stage.link(send_buffer=SMALL_KERNEL, room=0)
    conn = link.connection
    assert conn.buffered == 0
    conn.send("12345")
    assert conn.buffered == 7
    stage.hub.broadcast("12345")
    assert conn.buffered == 14
    conn.send_binary(bytes(200_000))
    stage.end_turn()
    assert 100_000 < conn.buffered <= 200_000 + 14 + 10
    link.read_all()
    assert conn.buffered == 0
    conn.send("12345")
    conn.close()
    assert conn.buffered == 7 + 4
    stage.end_turn()
    link.read_all()
    assert conn.buffered == 0


def test_latency_is_of_the_last_ping(stage: Scene) -> None:
    link = stage.link()
    conn = link.connection
    assert conn.latency is None
    link.receive(pong(b"\0\0\0\0") + pong(b""))
    assert conn.latency is None, "there was no ping"
    assert conn.ping()
    first = outgoing_ping(stage, link)
    stage.loop.clock += 0.25
    link.receive(pong(b"else") + pong(b"") + pong(first))
    assert conn.latency == 0.25
    conn.ping()
    second = outgoing_ping(stage, link)
    assert second != first
    stage.loop.clock += 3
    link.receive(pong(first))
    assert conn.latency == 0.25, "an answer to an older ping"
    link.receive(pong(second))
    assert conn.latency == 3


def pong(payload: bytes) -> bytes:
    return b"\x8a" + ping(payload)[1:]


def outgoing_ping(stage: Scene, link: Link) -> bytes:
    stage.end_turn()
    link.read_all()
    (sent,) = link.frames()
    assert sent.opcode == 0x9
    return sent.payload


# --- The connection goes away


def test_nothing_is_sent_to_who_is_gone(stage: Scene) -> None:
    link = stage.link()
    link.connection.send("never")
    link.transport.end()
    stage.end_turn(2)
    assert link.connection.send("x") is False
    assert link.connection.buffered == 0
    assert [event[:2] for event in stage.seen(link)] == [("close", 1006)]
    stage.hub.broadcast("x")
    stage.end_turn()


def test_a_transport_without_memory_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it has taken of a message nobody knows: whatever came next might be read as the rest of it."""

    def no_memory(data: bytes) -> None:
        raise MemoryError

    with scene(direct=False) as stage:
        link, other = stage.link(), stage.link()
        monkeypatch.setattr(link.transport, "write", no_memory)
        stage.hub.broadcast("x")
        stage.end_turn(3)
        assert link.frames() == []
        assert [event[:2] for event in stage.seen(link)] == [("close", 1006)]
        assert other.taken() == ["x"]


def test_a_broken_socket_is_closed_by_its_reading_side() -> None:
    """send(2) says EPIPE first: what the peer had sent before still counts."""
    with scene(direct=True) as stage:
        link, other = stage.link(), stage.link()
        link.peer.close()
        assert link.connection.send("x")
        stage.hub.broadcast("y")
        stage.end_turn()
        assert not link.connection.is_open()
        assert stage.seen(link) == []
        assert stage.hub.connections() == [other.connection]
        link.receive(close_frame(4321, "bye"))
        assert stage.seen(link) == [("close", 4321, "bye")]
        assert other.taken() == ["y"]


def test_memory_of_what_waited_is_freed(stage: Scene) -> None:
    link = stage.link(send_buffer=SMALL_KERNEL, room=0)
    tracemalloc.start()
    try:
        for _ in range(9):
            link.connection.send_binary(bytearray(100_000))
        stage.hub.broadcast("x" * 10_000)
        stage.end_turn()
        link.transport.end()
        stage.end_turn(2)
        assert tracemalloc.get_traced_memory()[0] < 400_000
    finally:
        tracemalloc.stop()
