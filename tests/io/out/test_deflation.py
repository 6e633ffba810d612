"""io/out/deflation: which messages are compressed, for whom, and that whatever comes in between, each can be read."""

import random
import threading
import tracemalloc
import zlib

import pytest
from support.client import BINARY, PING, PONG, TEXT, Frame, frame
from support.compressing import Compressing, agreement
from support.link import SMALL_KERNEL, Link, scene

from crest.io.out.deflation import Compression, Deflation
from crest.wire.deflate import Codec
from crest.wire.extensions import Agreement, Deflate

LONG = "All human beings are born free and equal in dignity and rights. " * 4


def compressed(data: bytes) -> bytes:
    """The payload of a client's message."""
    stream = zlib.compressobj(wbits=-15)
    return (stream.compress(data) + stream.flush(zlib.Z_SYNC_FLUSH))[:-4]


@pytest.fixture
def make(direct: bool):  # type: ignore[no-untyped-def]
    """Makes scenes, which are cleaned up."""
    made: list[Compressing] = []

    def make(limits: dict[str, object] | None = None, **options: object) -> Compressing:
        made.append(Compressing(direct, Deflate(**options), **(limits or {})))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for each in made:
        each.close()


# ---- What is compressed ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("takeover", [False, True])
def test_own_messages(make, takeover: bool) -> None:  # type: ignore[no-untyped-def]
    stage = make(server_no_context_takeover=not takeover, threshold=100)
    link = stage.client()
    for text in (LONG, "x" * 99, "x" * 100, "", LONG * 1000, "ä" * 50, "ä" * 49):
        assert link.connection.send(text)
    stage.end_turn()
    assert link.inflated() == [
        (LONG, True), ("x" * 99, False), ("x" * 100, True), ("", False), (LONG * 1000, True), ("ä" * 50, True),
        ("ä" * 49, False),
    ]  # fmt: skip


def test_threshold_of_nothing(make) -> None:  # type: ignore[no-untyped-def]
    """An empty message is the shortest there is, and stays as it is."""
    stage = make(threshold=0)
    link = stage.client()
    for text in ("", "a" * 20):
        link.connection.send(text)
        stage.hub.broadcast(text)
    stage.end_turn()
    assert link.inflated() == [("", False), ("", False), ("a" * 20, True), ("a" * 20, True)]


@pytest.mark.parametrize("takeover", [False, True])
def test_what_would_not_be_shorter(make, takeover: bool) -> None:  # type: ignore[no-untyped-def]
    stage = make(server_no_context_takeover=not takeover)
    link = stage.client()
    noise = random.Random(1).randbytes(100_000)
    link.connection.send(LONG)
    link.connection.send_binary(noise)
    stage.hub.broadcast_binary(noise)
    link.connection.send(LONG)
    stage.end_turn()
    link.read_all()
    frames = link.frames()
    assert [(each.opcode, each.rsv1) for each in frames] == [
        (TEXT, True), (BINARY, False), (BINARY, False), (TEXT, True)]  # fmt: skip
    assert frames[1].payload == frames[2].payload == noise
    assert [link._inflate(each) for each in (frames[0], frames[3])] == [LONG, LONG]


def test_who_says_not_to(make) -> None:  # type: ignore[no-untyped-def]
    stage = make(server_no_context_takeover=False)
    link = stage.client()
    for compress in (True, False):
        link.connection.send(LONG, compress=compress)
        stage.hub.broadcast(LONG, compress=compress)
    link.connection.send_binary(LONG.encode(), compress=False)
    stage.hub.broadcast_binary(LONG.encode(), compress=False)
    stage.end_turn()
    link.read_all()
    frames = link.frames()
    assert [(each.opcode, each.rsv1) for each in frames] == [
        (TEXT, True), (TEXT, True), (TEXT, False), (TEXT, False), (BINARY, False), (BINARY, False)]  # fmt: skip
    assert all(each.payload == LONG.encode() for each in frames[2:])


def test_control_frames_never_are(make) -> None:  # type: ignore[no-untyped-def]
    stage = make(threshold=0)
    link = stage.client()
    link.receive(frame(PING, b"a" * 125))
    link.connection.ping()
    link.connection.close(1000, "a" * 123)
    stage.end_turn()
    link.read_all()
    frames = link.frames()
    assert frames[0] == Frame(PONG, b"a" * 125)
    assert not any(each.rsv1 for each in frames)


def test_other_connections_get_it_as_it_is(make) -> None:  # type: ignore[no-untyped-def]
    stage = make()
    links = [stage.client(), stage.link(), stage.client()]
    stage.hub.broadcast(LONG)
    stage.end_turn()
    assert [link.inflated() for link in links] == [[(LONG, True)], [(LONG, False)], [(LONG, True)]]
    assert stage.hub.connection_count() == 3
    assert {id(each) for each in stage.hub.connections()} == {id(link.connection) for link in links}
    links[0].connection.close()
    links[1].connection.close()
    assert stage.hub.connections() == [links[2].connection]
    assert [link.connection.compression for link in links] == [
        "permessage-deflate; client_no_context_takeover", None,
        "permessage-deflate; client_no_context_takeover",
    ]  # fmt: skip


def test_from_other_threads(make) -> None:  # type: ignore[no-untyped-def]
    stage = make(server_no_context_takeover=False)
    link = stage.client()

    def work() -> None:
        for compress in (True, False):
            assert link.connection.send(LONG, compress=compress)
            stage.hub.broadcast(LONG, compress=compress)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    stage.end_turn(2)
    assert link.inflated() == [(LONG, True)] * 2 + [(LONG, False)] * 2


# ---- Windows ---------------------------------------------------------------------------------------------------------


def test_a_broadcast_has_the_smallest_window_of_those_that_get_it(make) -> None:  # type: ignore[no-untyped-def]
    """A repetition 20,000 bytes back is one for who has 15 bits, and none for who has 12."""
    stage = make()
    noise = random.Random(1).randbytes(10_000).hex()

    def sizes(*links: Link) -> list[int]:
        stage.hub.broadcast(noise * 2)
        stage.end_turn()
        for link in links:
            link.read_all()
        frames = [link.frames()[0] for link in links]
        assert [link._inflate(each) for link, each in zip(links, frames, strict=True)] == [noise * 2] * len(links)
        return [len(each.payload) for each in frames]

    wide = stage.client()
    (small,) = sizes(wide)
    narrow = stage.client(server_max_window_bits="12")
    links = [wide, narrow, stage.client()]
    large = sizes(*links)
    assert large[0] == large[1] == large[2] > small * 1.5
    for link in links:  # when nobody is left, nobody's window is to be cared for
        link.connection.close()
    assert sizes(stage.client()) == [small]


@pytest.mark.parametrize("bits", ["9", "15"])
@pytest.mark.parametrize("takeover", [False, True])
def test_messages_of_all_kinds_in_any_order(make, takeover: bool, bits: str) -> None:  # type: ignore[no-untyped-def]
    """Own messages and shared ones, compressed and not: each client can read them all, with and without takeover."""
    stage = make(server_no_context_takeover=not takeover, threshold=30)
    rng = random.Random(int(bits) + takeover)
    links = [stage.client(), stage.client(server_max_window_bits=bits), stage.client(server_no_context_takeover=None)]
    expected: list[list[str]] = [[], [], []]
    found: list[list[str]] = [[], [], []]
    for _ in range(400):
        text = "".join(rng.choices(["spam ", "ham ", "eggs ", f"{rng.random()}"], k=rng.choice([1, 10, 2000])))
        compress = rng.random() < 0.8
        kind = rng.randrange(6)
        if kind < 3:
            links[kind].connection.send(text, compress=compress)
            expected[kind].append(text)
        elif kind < 5:
            stage.hub.broadcast(text, compress=compress)
            for each in expected:
                each.append(text)
        else:
            stage.end_turn()
            for link, texts in zip(links, found, strict=True):
                texts += [text for text, _ in link.inflated()]
    stage.end_turn()
    for link, texts in zip(links, found, strict=True):
        texts += [text for text, _ in link.inflated()]
    assert found == expected


def test_takeover_goes_on_behind_what_is_not_compressed(make) -> None:  # type: ignore[no-untyped-def]
    """Only a compressed broadcast interrupts it."""
    stage = make(server_no_context_takeover=False)
    link = stage.client()

    def size_of_another() -> int:
        link.connection.send(LONG)
        stage.end_turn()
        link.read_all()
        return len(link.frames()[-1].payload)

    first, second = size_of_another(), size_of_another()
    assert second < first / 2
    stage.hub.broadcast("short")
    stage.hub.broadcast(LONG, compress=False)
    link.connection.send(LONG, compress=False)
    assert size_of_another() <= second
    stage.hub.broadcast(LONG)
    assert size_of_another() == first
    assert size_of_another() == second


@pytest.mark.parametrize("takeover", [False, True])
def test_a_message_that_the_backlog_refuses(make, takeover: bool) -> None:  # type: ignore[no-untyped-def]
    """What comes behind it does not refer to it. Compressed, the messages come to 300 to 400 bytes."""
    stage = make({"on_backlog": "drop-newest", "max_backlog": 1000}, server_no_context_takeover=not takeover)
    link = stage.link(agreed=agreement(stage.options), room=0, send_buffer=SMALL_KERNEL)
    rng = random.Random(1)
    link.connection.send("first " + LONG)
    filled = link.fill()
    accepted = ["first " + LONG]
    stage.end_turn()
    for _ in range(20):
        text = rng.randbytes(400).hex()
        if link.connection.send(text):
            accepted.append(text)
        stage.end_turn()
    assert 1 < len(accepted) < 21
    assert link.connection.dropped == 21 - len(accepted)
    if not stage.direct:
        link.transport.room = None
    link.read_all()
    stage.end_turn()
    link.read_all()
    if stage.direct:
        start = link.stream.index(bytes(filled)) if filled else 0
        del link.stream[start : start + filled]
    accepted.append("last " + LONG)
    assert link.connection.send(accepted[-1])
    stage.end_turn()
    assert [text for text, _ in link.inflated()] == accepted


def test_takeover_does_not_reach_over_state_that_had_waited(make) -> None:  # type: ignore[no-untyped-def]
    """With "latest", what has a key goes behind messages that were sent after it."""
    stage = make({"on_backlog": "latest"}, server_no_context_takeover=False)
    link = stage.link(agreed=agreement(stage.options), room=0, send_buffer=SMALL_KERNEL)
    own, large = random.Random(1).randbytes(300).hex(), "x" * 80_000
    link.connection.send(large, compress=False)
    stage.end_turn()
    stage.hub.broadcast("state " * 100, key="state")
    link.connection.send("1 " + own)
    stage.end_turn()
    got = [text for text, _ in link.inflated()]
    link.connection.send("2 " + own)
    stage.end_turn()
    got += [text for text, _ in link.inflated()]
    assert got == [large, "1 " + own, "state " * 100, "2 " + own]


# ---- What comes from clients -----------------------------------------------------------------------------------------


def test_messages_of_clients_are_inflated(make) -> None:  # type: ignore[no-untyped-def]
    stage = make()
    link = stage.client()
    stage.hub.on_message = lambda conn, message: stage.events.append(("message", conn.link, message))
    link.receive(frame(TEXT, compressed(LONG.encode()), rsv=4) + frame(TEXT, "plain"))
    assert stage.seen(link) == [("message", LONG), ("message", "plain")]


def test_a_bomb_is_stopped(make) -> None:  # type: ignore[no-untyped-def]
    """1009, with no more inflated than the limit and an output block."""
    stage = make({"max_message_size": 1 << 20})
    link = stage.client()
    stage.hub.on_message = lambda conn, message: stage.events.append(("message", conn.link, message))
    bomb = frame(TEXT, compressed(b"a" * (1 << 28)), rsv=4)
    tracemalloc.start()
    try:
        link.receive(bomb)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [event[0] for event in stage.seen(link)] == ["error", "close"]
    assert stage.seen(link)[1][1] == 1009
    assert peak < 4 << 20


def test_who_has_not_agreed_may_not_compress(make) -> None:  # type: ignore[no-untyped-def]
    stage = make()
    link = stage.link()
    link.receive(frame(TEXT, compressed(b"x"), rsv=4))
    assert stage.seen(link)[-1][1] == 1002


# ---- Memory ----------------------------------------------------------------------------------------------------------


def memory_of_a_connection(agreed: Agreement | None, options: Deflate) -> float:
    """Bytes that one of 200 keeps which have each received and sent compressed messages, and are idle now."""
    count = 200
    with scene(deflate=options) as stage:
        stage.hub.on_message = lambda conn, message: conn.send(message)

        def exchange(link: Link) -> Link:
            payload = LONG.encode() if agreed is None else compressed(LONG.encode())
            link.receive(frame(TEXT, payload, rsv=4 if agreed else 0))
            assert link.inflated() == [(LONG, agreed is not None)]
            return link

        links = [exchange(stage.link(agreed=agreed)) for _ in range(10)]  # what all of them share is there now
        tracemalloc.start()
        try:
            links += [exchange(stage.link(agreed=agreed)) for _ in range(count)]
            for link in links:
                link.window = None  # type: ignore[assignment]
            return tracemalloc.get_traced_memory()[0] / count
        finally:
            tracemalloc.stop()


def test_idle_connections_without_takeover_hold_no_stream() -> None:
    """With it, a connection has what is documented; without, not even what an inflating stream of 9 bits would take."""
    without = Deflate()
    both = Deflate(server_no_context_takeover=False, client_no_context_takeover=False)
    plain = memory_of_a_connection(None, without)
    assert memory_of_a_connection(agreement(without), without) - plain < 200
    taken = memory_of_a_connection(agreement(both), both) - plain
    assert taken > (4 << 15) + (512 << 5) + (1 << 15)
    assert taken < 1.1 * ((4 << 15) + (512 << 5) + 6080 + (1 << 15) + 7288)


def test_windows_are_given_back_when_a_connection_is_gone() -> None:
    options = Deflate(server_no_context_takeover=False)
    with scene(deflate=options) as stage:
        link = stage.link(agreed=agreement(options))
        tracemalloc.start()
        try:
            link.connection.send(LONG)
            stage.end_turn()
            used = tracemalloc.get_traced_memory()[0]
            link.transport.end()
            stage.end_turn()
            assert used - tracemalloc.get_traced_memory()[0] > 100_000
        finally:
            tracemalloc.stop()
        assert not link.connection.send(LONG)  # the application may have kept it
        assert link.connection.compression == "permessage-deflate; client_no_context_takeover"


# ---- The objects -----------------------------------------------------------------------------------------------------


def test_arguments() -> None:
    with pytest.raises(TypeError):
        Compression(None)
    with pytest.raises(TypeError):
        Deflation(None, agreement(Deflate()))
    with pytest.raises(TypeError):
        Deflation(Compression(Deflate()), None)
    assert Deflation(Compression(Deflate()), agreement(Deflate())).agreed.startswith("permessage-deflate; ")
    assert Codec().level == Deflate().level
