"""crest.io.outbox: what waits to be sent on one connection, its order, its bound, and what leaves in one send."""

import array
import random
import socket
import threading
import tracemalloc
from collections.abc import Iterator

import pytest
from client import BINARY, CLOSE, PONG, TEXT, Frame, close_frame
from link import Link, Scene, closed_with, ping, scene, text

SMALL_KERNEL = 4608
"""SO_SNDBUF: the least that Linux allows."""


# --- Order: own sends, broadcasts and pongs, in every interleaving


class Story:
    """Random events on several connections, and what each peer must have got in the end."""

    def __init__(self, stage: Scene, seed: int) -> None:
        self.random = random.Random(seed)
        self.stage = stage
        self.links: list[Link] = []
        self.accepted: dict[Link, list[Frame]] = {}
        self.refused: dict[Link, int] = {}
        self.serial = 0
        stage.hub.on_message = self.answer
        for _ in range(self.random.randint(2, 5)):
            self.join()

    def answer(self, conn: object, message: str) -> None:
        link = conn.link  # type: ignore[attr-defined]
        for _ in range(self.random.randint(0, 3)):
            self.random.choice([self.send, self.send, self.broadcast])(link)
        if message == "close":
            self.close(link)

    def payload(self) -> bytes:
        """One that no other message has, of a size around the bounds that the outbox and the fan-out have."""
        self.serial += 1
        size = self.random.choice([0, 10, 100, 118, 8000, 8190, 20_000, 65_530, 66_000, 150_000, 270_000])
        return b"%d:" % self.serial + bytes([97 + self.serial % 26]) * (size if self.random.random() < 0.3 else size % 300)

    def open(self) -> list[Link]:
        return [link for link in self.links if link.connection.is_open()]

    def join(self, _: object = None) -> None:
        small = self.random.random() < 0.7
        link = self.stage.link(send_buffer=SMALL_KERNEL if small else None, room=3000 if small else None)
        self.links.append(link)
        self.accepted[link], self.refused[link] = [], 0

    def send(self, link: Link) -> None:
        data, conn = self.payload(), link.connection
        was_open = conn.is_open()
        how = self.random.randrange(3)
        if how == 0:
            sent, accepted = Frame(TEXT, data), conn.send(data.decode())
        elif how == 1:
            sent, accepted = Frame(BINARY, data), conn.send_binary(data)
        else:
            mutable = bytearray(data)
            sent, accepted = Frame(BINARY, data), conn.send_binary(mutable)
            mutable[:] = b"!" * len(mutable)
        if accepted:
            self.accepted[link].append(sent)
        elif was_open:
            self.refused[link] += 1

    def burst(self, link: Link) -> None:
        for _ in range(self.random.randint(1, 60)):
            self.random.choice([self.send, self.broadcast])(link)

    def broadcast(self, _: Link) -> None:
        data = self.payload()
        for link in self.open():
            self.accepted[link].append(Frame(TEXT, data))
        self.stage.hub.broadcast(data.decode())

    def close(self, link: Link) -> None:
        if link.connection.is_open():
            link.connection.close(4000)
            self.accepted[link].append(Frame(CLOSE, (4000).to_bytes(2, "big")))

    def receive(self, link: Link) -> None:
        """Several frames come at once."""
        frames = [text("close" if self.random.random() < 0.01 else "hello") for _ in range(self.random.randint(1, 4))]
        link.receive(b"".join(frames))

    def pinged(self, link: Link) -> None:
        self.serial += 1
        if link.connection.is_open():
            self.accepted[link].append(Frame(PONG, b"%d" % self.serial))
            link.receive(ping(b"%d" % self.serial))

    def read(self, link: Link) -> None:
        link.read(self.random.choice([1, 100, 5000, 100_000]))
        link.transport.writable(self.random.choice([1, 1000, 100_000]))

    def end_turn(self, _: Link) -> None:
        self.stage.end_turn()

    def tell(self, steps: int) -> None:
        doings = [self.send, self.broadcast, self.burst, self.receive, self.pinged, self.read, self.end_turn, self.join, self.close]
        often = [10, 10, 1, 3, 2, 8, 8, 0.3, 0.2]
        for step in self.random.choices(doings, often, k=steps):
            step(self.random.choice(self.links))
        for _ in range(2):
            self.stage.end_turn()
            for link in self.links:
                link.read_all()


def brief(frames: list[Frame]) -> list[tuple[int, bytes, int]]:
    """Frames as a failing test shows them: a payload begins with a number that no other has."""
    return [(each.opcode, each.payload[:6], len(each.payload)) for each in frames]


@pytest.mark.parametrize("seed", range(30))
def test_messages_arrive_in_the_order_of_the_calls(direct: bool, seed: int) -> None:
    with scene(direct=direct, max_backlog=1 << 30) as unbounded:
        story = Story(unbounded, seed)
        story.tell(400)
        for link in story.links:
            frames = link.frames()
            assert brief(frames) == brief(story.accepted[link])
            assert frames == story.accepted[link]
            assert link.connection.dropped == story.refused[link] == 0
            assert link.connection.buffered == 0


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("limit", [1, 1000, 30_000, 300_000])
def test_drop_loses_whole_messages_and_nothing_else(direct: bool, seed: int, limit: int) -> None:
    """What came is what was accepted, in order, without the messages that `dropped` counts."""
    with scene(direct=direct, max_backlog=limit, drop=True) as bounded:
        story = Story(bounded, seed)
        story.tell(200)
        for link in story.links:
            frames, left = link.frames(), iter(story.accepted[link])
            for each in frames:
                assert each in left, f"{brief([each])} is not behind what came before it"
            missing = len(story.accepted[link]) - len(frames)
            assert link.connection.dropped == missing + story.refused[link]
            assert not bounded.seen(link)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("limit", [1, 1000, 30_000, 300_000])
def test_close_loses_nothing_before_the_close_frame(direct: bool, seed: int, limit: int) -> None:
    """What came is the beginning of what was accepted, up to a close frame with 1013; all of it for who was not too slow."""
    with scene(direct=direct, max_backlog=limit) as bounded:
        story = Story(bounded, seed)
        story.tell(200)
        for link in story.links:
            frames, accepted = link.frames(), story.accepted[link]
            if link.connection.dropped:
                *messages, close = frames
                assert brief(messages) == brief(accepted[: len(messages)])
                assert (close.opcode, close.code) == (CLOSE, 1013)
                assert [event[0] for event in bounded.seen(link)] == ["error", "close"]
            else:
                assert brief(frames) == brief(accepted)


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
    links = [stage.link(send_buffer=SMALL_KERNEL if i % 3 == 0 else None, room=50 if i % 3 == 0 else None) for i in range(30)]
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


# --- The bound


def stalled(stage: Scene) -> Link:
    """A connection whose kernel has taken what it will, and more waits."""
    link = stage.link(send_buffer=SMALL_KERNEL, room=0)
    assert link.connection.send("x" * 100_000)
    stage.end_turn()
    assert link.connection.buffered > 64_000
    return link


@pytest.fixture
def dropping(direct: bool) -> Iterator[Scene]:
    with scene(direct=direct, max_backlog=200_000, drop=True) as made:
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
    assert link.taken() == ["x" * 100_000, *accepted, "small"]
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
    assert got == ["x" * 100_000, *[f"{i:05}" * 1000 for i in range(len(got) - 1)]]
    assert 15 < len(got) < 40
    assert link.connection.dropped == 41 - len(got)


def test_close_says_why_and_closes_once(closing: Scene) -> None:
    link, other = stalled(closing), closing.link()
    conn = link.connection
    sent = ["x" * 100_000]
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
    assert in_thread(link.connection.send, "t" * 10_000) is True, "what was posted has been counted off"


def test_a_thread_closes_with_the_policy(closing: Scene) -> None:
    link = stalled(closing)
    in_thread(lambda: [link.connection.send("t" * 10_000) for _ in range(30)])
    closing.end_turn(3)
    assert closed_with(link) == 1013
    assert [event[0] for event in closing.seen(link)] == ["error", "close"]


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
    stage.end_turn()
    assert outgoing_ping(stage, link)


def test_a_thread_after_the_loop_has_closed() -> None:
    with scene() as stage:
        link = stage.link()
    link.connection.close()
    assert in_thread(link.connection.send, "x") is False
    assert in_thread(link.connection.ping) is False
    assert in_thread(stage.hub.broadcast, "x") is None


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
