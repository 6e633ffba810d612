"""crest.wire.meter: what is counted, how the tokens come back, and that how a stream was cut changes neither.

Times are milliseconds. A frame of a client has 6 bytes before a payload of less than 126, 8 before one of less than
64 KiB and 14 before a longer one.
"""

import random
import zlib

import pytest
from support.deliveries import DELIVERIES, cut, cuts
from support.reference import BINARY, CLOSE, CONTINUATION, FAIL, PING, PONG, RSV1, TEXT, Event, fragmented, frame

from crest.wire.deflate import Codec, Inflater
from crest.wire.frames import FrameReader
from crest.wire.meter import Meter, Rates

POLICY_VIOLATION = 1008


def reader(
    messages: tuple[float, float] | None = None, octets: tuple[float, float] | None = None
) -> tuple[FrameReader, Meter]:
    meter = Meter(Rates(messages, octets))
    return FrameReader(max_message_size=1 << 30, meter=meter), meter


def refusal(events: list[Event]) -> str | None:
    """The text of the refusal that these events end with, without the frame's number; None if nothing was refused."""
    if not events or events[-1][0] != FAIL:
        return None
    assert events[-1][1] == POLICY_VIOLATION, events[-1]
    return str(events[-1][2]).partition(": ")[2]


def assert_takes(stream: bytes, most: int, **limit: tuple[float, float]) -> None:
    """Whatever the cut, a meter of exactly `most` takes the stream, and one of less does not."""
    (name,) = limit
    for count, taken in ((most, True), (most - 1, False)):
        if count < 1:
            continue
        for feed in DELIVERIES.values():
            for chunks in cuts(stream):
                made, _ = reader(**{name: (0.001, count)})
                events = [event for chunk in chunks for event in feed(made, chunk)]
                assert (refusal(events) is None) == taken, (count, [chunk.hex() for chunk in chunks], events)


EACH_IS_ONE = [
    pytest.param(frame(TEXT, b"a"), 1, id="text"),
    pytest.param(frame(BINARY, b""), 1, id="empty binary"),
    pytest.param(frame(TEXT, b"x" * 130), 1, id="a longer one"),
    pytest.param(frame(PING, b"a"), 1, id="ping"),
    pytest.param(frame(TEXT, b"a") * 5 + frame(PING, b""), 6, id="several"),
    pytest.param(fragmented(TEXT, [b"a", b"b", b"c"]), 1, id="fragments"),
    pytest.param(fragmented(BINARY, [b"", b"a", b""]), 1, id="empty at the ends"),
    pytest.param(fragmented(BINARY, [b"a", b"", b"", b"b"]), 3, id="empty in the middle"),
    pytest.param(frame(TEXT, b"a", fin=False) + frame(PING, b"") + frame(CONTINUATION, b"b"), 2, id="ping between"),
]


@pytest.mark.parametrize(("stream", "count"), EACH_IS_ONE)
def test_what_counts_as_a_message(stream: bytes, count: int) -> None:
    assert_takes(stream, count, messages=(0, 0))


@pytest.mark.parametrize(
    "stream",
    [
        frame(TEXT, b"a"),
        frame(TEXT, b""),
        frame(PING, b"abc"),
        frame(PONG, b"abc"),
        fragmented(TEXT, [b"a", b"", b"b"]),
    ],
)
def test_every_byte_counts(stream: bytes) -> None:
    assert_takes(stream, len(stream), octets=(0, 0))


@pytest.mark.parametrize("size", [125, 126, 65535, 65536, 300_000])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_so_do_those_of_long_frames(opcode: int, size: int) -> None:
    stream = frame(opcode, b"x" * size)
    for feed in DELIVERIES.values():
        for chunk in (1 << 30, 70_000, 4096):
            for most, taken in ((len(stream), True), (len(stream) - 1, False)):
                made, _ = reader(octets=(0.001, most))
                events = [event for piece in cut(stream, chunk) for event in feed(made, piece)]
                assert (refusal(events) is None) == taken


def test_compressed_bytes_count_as_they_came() -> None:
    deflate = zlib.compressobj(wbits=-15)
    payload = (deflate.compress(b"x" * 100_000) + deflate.flush(zlib.Z_SYNC_FLUSH))[:-4]
    stream = frame(BINARY | RSV1, payload)
    meter = Meter(Rates(None, (0.001, len(stream))))
    made = FrameReader(inflater=Inflater(Codec(), 15, takeover=False), meter=meter)
    assert made.feed(stream) == [(BINARY, b"x" * 100_000)]
    assert refusal(made.feed(frame(TEXT, b""))) is not None


def test_what_they_inflate_to_counts_too_where_it_is_to() -> None:
    """Beside the bytes that came; however they were cut."""
    deflate = zlib.compressobj(wbits=-15)
    payload = (deflate.compress(b"x" * 100_000) + deflate.flush(zlib.Z_SYNC_FLUSH))[:-4]
    stream = frame(BINARY | RSV1, payload[:9], fin=False) + frame(CONTINUATION, payload[9:])
    for short in (0, 1):
        for size in (1, len(stream)):
            rates = Rates(None, (0.001, len(stream) + 100_000 - short), count_inflated=True)
            assert rates.count_inflated is True
            made = FrameReader(inflater=Inflater(Codec(), 15, takeover=False), meter=Meter(rates))
            events = [event for at in range(0, len(stream), size) for event in made.feed(stream[at : at + size])]
            if short:
                assert events[0][:2] == (FAIL, 1008) and "over max_byte_rate" in str(events[0][2])
            else:
                assert events == [(BINARY, b"x" * 100_000)]


def test_a_close_frame_and_a_pong_are_no_messages() -> None:
    made, _ = reader(messages=(0.001, 1), octets=(0.001, 13))
    events = made.feed(frame(TEXT, b"a") + frame(PONG, b"") + frame(CLOSE, b"\x03\xe8bye"))
    assert events == [(TEXT, "a"), (PONG, b""), (CLOSE, 1000, "bye")]


def test_what_came_before_the_excess_is_delivered() -> None:
    made, _ = reader(messages=(2.5, 3))
    *taken, last = made.feed(frame(TEXT, b"a") * 10)
    assert taken == [(TEXT, "a")] * 3
    assert last == (FAIL, POLICY_VIOLATION, "frame 4: over max_message_rate: 2.5 messages a second, 3 at once")
    assert made.feed(frame(TEXT, b"a")) == []


@pytest.mark.parametrize(
    ("messages", "octets", "stream", "text"),
    [
        ((5, 5), None, frame(PING, b"") * 6, "over max_message_rate: 5 messages a second, 5 at once"),
        ((5, 1), (1e6, 1e6), frame(TEXT, b"") * 2, "over max_message_rate: 5 messages a second, 1 at once"),
        ((1, 1), (9, 20), frame(TEXT, b"x" * 15), "over max_byte_rate: 9 bytes a second, 20 at once"),
        ((1, 1), (9, 20), frame(BINARY, b"x" * 500), "over max_byte_rate: 9 bytes a second, 20 at once"),
        (None, (1048576, 10), frame(PONG, b"x" * 5), "over max_byte_rate: 1048576 bytes a second, 10 at once"),
    ],
)
def test_the_refusal_says_which_limit(
    messages: tuple[float, float] | None, octets: tuple[float, float] | None, stream: bytes, text: str
) -> None:
    for chunk in (1 << 20, 1):
        made, _ = reader(messages, octets)
        assert refusal([event for piece in cut(stream, chunk) for event in made.feed(piece)]) == text


# ---- Time ------------------------------------------------------------------------------------------------------------


def test_tokens_come_back_at_the_rate() -> None:
    made, meter = reader(messages=(10, 3))
    assert len(made.feed(frame(TEXT, b"a") * 3)) == 3
    for now in range(100, 2000, 100):
        meter.refill(now)
        assert made.feed(frame(TEXT, b"a")) == [(TEXT, "a")]
    meter.refill(1999)
    assert refusal(made.feed(frame(TEXT, b"a"))) is not None


def test_and_not_more_than_may_come_at_once() -> None:
    made, meter = reader(messages=(10, 3), octets=(100, 1000))
    meter.refill(1_000_000)
    events = made.feed(frame(TEXT, b"a") * 4)
    assert (len(events), refusal(events)) == (4, "over max_message_rate: 10 messages a second, 3 at once")


def test_a_long_message_may_take_as_long_as_its_rate_allows() -> None:
    stream = frame(BINARY, b"x" * 100_000)
    made, meter = reader(octets=(10_000, 2000))
    pieces = cut(stream, 1000)
    for at, piece in enumerate(pieces):
        meter.refill(100 * at)
        events = made.feed(piece)
    assert events == [(BINARY, b"x" * 100_000)]


def test_time_goes_on_behind_32_bits() -> None:
    meter = Meter(Rates((10, 1)), 2**32 - 50)
    made = FrameReader(meter=meter)
    assert made.feed(frame(TEXT, b"")) == [(TEXT, "")]
    meter.refill(50)
    assert made.feed(frame(TEXT, b"")) == [(TEXT, "")]
    assert refusal(made.feed(frame(TEXT, b""))) is not None


def test_what_came_while_nobody_read_is_within_the_rate() -> None:
    made, meter = reader(messages=(10, 2), octets=(100, 100))
    meter.excuse(3000)
    meter.refill(3000)
    events = made.feed(frame(TEXT, b"") * 40)
    assert (len(events), refusal(events)) == (33, "over max_message_rate: 10 messages a second, 2 at once")


def test_it_may_still_come_a_little_later_but_does_not_grow() -> None:
    made, meter = reader(messages=(10, 2))
    meter.excuse(1000)
    meter.refill(60_000)
    assert len(made.feed(frame(TEXT, b"") * 40)) == 12 + 1


def test_no_stream_gets_more_than_rate_and_burst() -> None:
    """Over any time, whatever comes when: what is taken is the burst, and the rate times the time, at most."""
    rng = random.Random(8)
    for _ in range(200):
        rate, burst = rng.uniform(1, 50), rng.uniform(1, 20)
        made, meter = reader(messages=(rate, burst))
        now = taken = 0
        while True:
            now += rng.choice([0, 0, 1, 10, 100, 1000])
            meter.refill(now)
            events = made.feed(frame(TEXT, b"") * rng.randrange(3))
            if refusal(events) is not None:
                break
            taken += len(events)
            assert taken <= burst + rate * now / 1000 + 1e-6


# ---- What is dropped -------------------------------------------------------------------------------------------------

DROPPED = (-3, "")


@pytest.mark.parametrize(
    "message",
    [
        frame(TEXT, b"a"),
        frame(BINARY, b"x" * 7000),
        frame(BINARY, b"x" * 70_000),
        fragmented(TEXT, [b"a", b"", b"b"]),
        fragmented(BINARY, [b"x" * 200, b"y" * 300]),
    ],
)
def test_a_message_is_dropped_whole(message: bytes) -> None:
    """Whatever the cut; and what is no message goes on."""
    stream = frame(TEXT, b"first") + message * 2 + frame(PONG, b"p") + message + frame(CLOSE, b"\x03\xe8")
    few = [cut(stream, size) for size in (7, 1000, 1 << 16)]
    for feed in DELIVERIES.values():
        for chunks in few if len(stream) > 100_000 else cuts(stream):
            made = FrameReader(meter=Meter(Rates((0.001, 1), None, False, "drop")))
            events = [event for chunk in chunks for event in feed(made, chunk)]
            assert events == [(TEXT, "first"), DROPPED, DROPPED, (PONG, b"p"), DROPPED, (CLOSE, 1000, "")]


def test_bytes_may_run_out_within_a_message() -> None:
    """It is dropped whole, what it took by then is taken, and the rest of it takes nothing."""
    meter = Meter(Rates(None, (1000, 1000), False, "drop"))
    made = FrameReader(meter=meter)
    for piece in cut(frame(TEXT, b"x" * 5000), 300):
        events = made.feed(piece)
    assert events == [DROPPED]
    meter.refill(500)
    assert made.feed(frame(TEXT, b"y" * 400)) == [(TEXT, "y" * 400)]


@pytest.mark.parametrize("takeover", [True, False])
@pytest.mark.parametrize("inflated", [True, False])
def test_what_refers_to_a_dropped_message_can_be_read(takeover: bool, inflated: bool) -> None:
    stream = zlib.compressobj(wbits=-15)
    sent = []
    for text in (b"Hello, hello, hello " * 30, b"Hello, hello, hello " * 31, b"Hello"):
        sent.append((stream.compress(text) + stream.flush(zlib.Z_SYNC_FLUSH))[:-4])
        if not takeover:
            stream = zlib.compressobj(wbits=-15)
    limits = (None, (0.001, 610), True) if inflated else ((0.001, 0.5 + 0.5), None, False)
    for chunk in (1 << 20, 1, 10):
        meter = Meter(Rates(*limits, "drop"))
        made = FrameReader(inflater=Inflater(Codec(), 15, takeover=takeover), meter=meter)
        data = b"".join(frame(RSV1 | TEXT, each) for each in sent[:2])
        events = [event for piece in cut(data, chunk) for event in made.feed(piece)]
        assert [event[0] for event in events] == ([DROPPED[0]] * 2 if inflated else [TEXT, DROPPED[0]])
        meter.refill(1 << 31)
        meter.refill((1 << 32) - 1)
        assert made.feed(frame(RSV1 | TEXT, sent[2])) == [(TEXT, "Hello")]


def test_mistakes_are_mistakes_still() -> None:
    made = FrameReader(meter=Meter(Rates((0.001, 1), None, False, "drop")))
    events = made.feed(frame(TEXT, b"") + frame(TEXT, b"a", fin=False) + frame(TEXT, b"b"))
    assert events[1][:2] == (FAIL, 1002)


@pytest.mark.parametrize("policy", ["close", "drop", "wait"])
def test_names_of_policies(policy: str) -> None:
    Rates((1, 1), None, False, policy)
    with pytest.raises(ValueError):
        Rates((1, 1), None, False, policy.upper())


def test_what_is_owed_is_made_up_for() -> None:
    """With "wait" nothing is refused here: whoever feeds the reader waits."""
    meter = Meter(Rates((10, 1), None, False, "wait"))
    made = FrameReader(meter=meter)
    assert made.feed(frame(TEXT, b"") * 5) == [(TEXT, "")] * 5
