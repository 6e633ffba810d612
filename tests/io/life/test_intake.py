"""crest.io.life.intake: what has come and is not handled counts by its memory, and who has most of it goes first."""

import asyncio
import random
import sys
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from support.client import BINARY, CLOSE, PING, TEXT, close_frame, frame
from support.compressing import Compressing
from support.link import Link, Scene, closed_with, leave, scene, text, used

from crest.io.life.intake import Intake
from crest.io.loop.budget import Budget
from crest.wire.extensions import Deflate

LIMIT = 4_000_000

EVENT = 128
"""Bytes that an event takes which waits, beside its message."""

EMOJI = "😀" + "x" * 99_999
"""Four bytes a character in memory, and little more than one on the wire."""

CONTINUATION = 0


class Held:
    """An async handler that each connection waits for until the test lets it go on."""

    def __init__(self, stage: Scene) -> None:
        self.stage = stage
        self.begun: list[Any] = []
        self.gate = stage.loop.create_future()

    async def handler(self, conn: Any, message: Any) -> None:
        self.begun.append((conn.link, message))
        await self.gate

    def let_go(self) -> None:
        gate, self.gate = self.gate, self.stage.loop.create_future()
        gate.set_result(None)
        self.stage.end_turn(3)

    def let_all_go(self) -> None:
        for _ in range(100):
            self.let_go()


@contextmanager
def holding(stage: Scene) -> Iterator[Held]:
    """All messages are held, until the test lets them go or has ended."""
    made = Held(stage)
    stage.hub.on_message = stage.hub.on_binary = made.handler
    yield made
    made.let_all_go()


@pytest.fixture
def held(stage: Scene) -> Iterator[Held]:
    with holding(stage) as made:
        yield made


@pytest.fixture
def tight(direct: bool) -> Iterator[Scene]:
    with scene(direct=direct, max_backlog_total=LIMIT) as made:
        yield made


@pytest.fixture
def shedding(tight: Scene) -> Iterator[Held]:
    with holding(tight) as made:
        yield made


# --- What counts


def test_a_new_one_holds_nothing(stage: Scene) -> None:
    link = stage.link()
    assert Intake(Budget(stage.loop, 5, stage.turn.run), link.protocol) is not None
    assert used(stage) == 0


def test_what_is_handled_at_once_never_counts(stage: Scene) -> None:
    """Nor does it use up what there is for others."""
    sizes = []
    stage.hub.on_message = lambda conn, message: sizes.append((len(message), used(stage)))
    link = stage.link()
    link.receive(text("a") + text("b" * 100_000) + text(EMOJI))
    assert sizes == [(1, 0), (100_000, 0), (100_000, 0)]
    assert used(stage) == 0


@pytest.mark.parametrize(
    ("opcode", "payload"),
    [
        (TEXT, ""), (TEXT, "ascii" * 100), (TEXT, "é" * 1000), (TEXT, "€" * 1000), (TEXT, EMOJI),
        (BINARY, b""), (BINARY, bytes(5000)),
    ],
)  # fmt: skip
def test_what_waits_counts_by_its_memory_until_it_is_handled(
    stage: Scene, held: Held, opcode: int, payload: str | bytes
) -> None:
    link = stage.link()
    message = frame(opcode, payload.encode() if isinstance(payload, str) else payload)
    link.receive(message)
    assert used(stage) == 0, "it is the handler's"
    link.receive(message)
    assert used(stage) == sys.getsizeof(payload) + EVENT
    link.receive(message)
    assert used(stage) == 2 * (sys.getsizeof(payload) + EVENT)
    stage.end_turn()
    held.let_go()
    assert used(stage) == sys.getsizeof(payload) + EVENT
    held.let_go()
    assert used(stage) == 0
    assert [message for _, message in held.begun] == [payload] * 3


def test_an_event_takes_what_is_counted_for_it() -> None:
    """A tuple, an int, and a place in a deque."""
    event = (1, "message", None, 12345678)
    assert sys.getsizeof(event) + sys.getsizeof(event[3]) + 8 <= EVENT < 2 * sys.getsizeof(event)


def test_bytes_behind_a_full_queue_count(stage: Scene, held: Held) -> None:
    link = stage.link()
    link.receive(text("1") * 1017)
    assert not link.transport.reading
    assert used(stage) == 16 * (sys.getsizeof("1") + EVENT) + 1000 * 7
    while len(held.begun) < 1017:
        held.let_go()
    held.let_go()
    assert len(held.begun) == 1017 and used(stage) == 0


def test_a_message_that_is_not_complete_counts(stage: Scene) -> None:
    link = stage.link()
    link.receive(frame(TEXT, "x" * 1000, fin=False))
    assert 1000 <= used(stage) <= 2000
    link.receive(frame(CONTINUATION, "y" * 500_000, fin=False))
    assert 501_000 <= used(stage) <= 1_100_000
    link.receive(frame(PING, b"in between"))
    assert used(stage) >= 501_000
    link.receive(frame(CONTINUATION, "z"))
    assert used(stage) == 0
    link.receive(frame(BINARY, bytes(1000), fin=False))
    leave(stage, link)
    assert used(stage) == 0


def test_so_does_what_inflates_it(direct: bool) -> None:
    """A byte of a compressed message costs a window."""
    stream = zlib.compressobj(wbits=-15)
    payload = stream.compress(b"x" * 1000) + stream.flush(zlib.Z_SYNC_FLUSH)
    with closing(Compressing(direct, Deflate())) as stage:
        link = stage.client()
        link.receive(frame(BINARY, payload[:1], fin=False, rsv=4))
        assert 40_056 <= used(stage) <= 40_056 + 4096 + 64
        link.receive(frame(CONTINUATION, payload[1:-4]))
        assert used(stage) == 0


def test_what_is_no_message_waits_too(stage: Scene, held: Held) -> None:
    """Its words do not count, but it does."""
    link = stage.link()
    link.receive(text("1") + close_frame(1000, "x" * 100))
    assert used(stage) == EVENT
    stage.end_turn()
    held.let_go()
    assert stage.seen(link) == [("close", 1000, "x" * 100)]
    assert used(stage) == 0


@pytest.mark.parametrize("seed", range(6))
def test_nothing_is_forgotten(direct: bool, seed: int) -> None:
    """Whatever comes and goes, it counts while it is there, and in the end nothing does."""
    choose = random.Random(seed)
    with scene(direct=direct, max_message_size=300_000, max_backlog_total=3_000_000) as stage:
        held = Held(stage)
        stage.hub.on_message = stage.hub.on_binary = held.handler
        links = [stage.link() for _ in range(4)]
        for _ in range(300):
            link, what = choose.choice(links), choose.random()
            if what < 0.5:
                size = choose.choice([0, 1, 100, 20_000, 200_000])
                link.receive(frame(choose.choice([TEXT, BINARY]), b"x" * size))
            elif what < 0.6:
                link.receive(frame(choose.choice([CONTINUATION, TEXT]), b"y" * 1000, fin=choose.random() < 0.5))
            elif what < 0.65:
                leave(stage, link)
                links[links.index(link)] = stage.link()
            elif what < 0.7:
                link.connection.close()
            elif what < 0.9:
                held.let_go()
            else:
                stage.end_turn()
            assert used(stage) <= 3_000_000 + 2 * 500_000
        leave(stage, *links)
        held.let_all_go()
        assert used(stage) == 0


def test_a_loop_that_is_closed_with_something_held() -> None:
    stage = Scene()
    held = Held(stage)
    stage.hub.on_message = held.handler
    link = stage.link()
    link.receive(text("1") + text("2") + frame(TEXT, "x" * 1000, fin=False))
    assert used(stage) > 1000
    stage.close()
    assert used(stage) == 0


# --- Who goes


def fill(link: Link, size: int) -> None:
    """Have so much wait for the handler of a connection that the first message is with."""
    for _ in range(1 + size // (4 * len(EMOJI))):
        link.receive(text(EMOJI))


def test_who_holds_most_goes_with_1013_and_the_others_go_on(tight: Scene, shedding: Held) -> None:
    links = [tight.link() for _ in range(3)]
    for link, size in zip(links, (800_000, 2_000_000, 800_000), strict=True):
        fill(link, size)
    tight.end_turn(2)
    assert all(link.connection.is_open() for link in links)
    before = used(tight)
    fill(links[2], 800_000)
    assert used(tight) > LIMIT
    tight.end_turn(2)
    assert [link.connection.is_open() for link in links] == [True, False, True]
    assert used(tight) < LIMIT < before + 800_000
    tight.end_turn(2)
    assert closed_with(links[1]) == 1013
    assert tight.seen(links[1]) == [], "its handler runs"
    for _ in range(10):
        shedding.let_go()
        links[2].receive(b"")  # what its transport was not asked for while there was no budget
    ((what, error), (_, code, reason)) = tight.seen(links[1])
    assert (what, code, reason) == ("error", 1013, error)
    assert error.startswith("too much of the peer's waits to be handled: it takes 2")
    assert error.endswith(f" bytes of memory, and that of all together more than max_backlog_total, {LIMIT} bytes")
    counts = [sum(link is each for link, _ in shedding.begun) for each in links]
    assert counts == [3, 1, 6], "what had waited on the others was handled, and only there"


def test_it_is_heard_no_more(tight: Scene, shedding: Held) -> None:
    """What comes behind the messages that were dropped must not be handled as if they had never been."""
    link = tight.link()
    fill(link, 1_000_000)
    link.receive(frame(TEXT, "beg", fin=False))
    for _ in range(12):
        link.receive(frame(CONTINUATION, "x" * 400_000, fin=False))
    tight.end_turn()
    link.receive(frame(CONTINUATION, "un") + text("next"))
    tight.end_turn(3)
    shedding.let_all_go()
    assert [message for _, message in shedding.begun] == [EMOJI]
    assert [event[0] for event in tight.seen(link)] == ["error", "close"]
    assert closed_with(link) == 1013


def test_one_that_has_ended_is_told_before_on_close(tight: Scene, shedding: Held) -> None:
    """The code is that of its end."""
    link = tight.link()
    fill(link, 3_000_000)
    link.receive(close_frame(4000, "bye"))
    other = tight.link()
    fill(other, 2_000_000)
    tight.end_turn(3)
    assert other.connection.is_open() and used(tight) < LIMIT
    shedding.let_all_go()
    (what, error), last = tight.seen(link)
    assert (what, last) == ("error", ("close", 4000, "bye")) and "max_backlog_total" in error
    assert sum(each is link for each, _ in shedding.begun) == 1


def test_one_that_is_lost_is_told_too(tight: Scene, shedding: Held) -> None:
    """Its socket is gone, its queue full, and bytes behind it are unread."""
    link = tight.link()
    link.receive(text(EMOJI[:1000]) * 30)
    link.transport.abort()
    tight.end_turn(2)
    other = tight.link()
    fill(other, 4_100_000)
    assert used(tight) > LIMIT
    big = tight.link()
    fill(big, 100)
    tight.end_turn(3)
    leave(tight, other, big)
    shedding.let_all_go()
    assert [event[0] for event in tight.seen(link)][-1] == "close"
    assert used(tight) == 0


def test_nothing_more_is_read_of_one_with_messages_that_wait(tight: Scene, shedding: Held) -> None:
    """Until the others are shed, in the next turn: what one read brings is bounded by the budget too."""
    link = tight.link()
    link.receive(text(EMOJI))
    link.receive(text(EMOJI) * 2)
    links = [tight.link() for _ in range(3)]
    for each in links:
        fill(each, 1_600_000)
    assert used(tight) > LIMIT
    before = used(tight)
    link.receive(text(EMOJI) * 2)
    assert used(tight) - before < 2.5 * len(EMOJI), "they are kept as they came"
    tight.end_turn(3)
    shedding.let_all_go()
    assert sum(each is link for each, _ in shedding.begun) == 5


def test_what_waits_for_handlers_and_for_peers_is_one_budget(tight: Scene, shedding: Held) -> None:
    """The greatest goes, whichever way it was under way."""
    slow = tight.link(send_buffer=4608, room=0)
    reading = tight.link()
    assert slow.connection.send("x" * 80_000)
    tight.end_turn()
    for _ in range(8):
        assert slow.connection.send(f"{random.random()}".ljust(100_000, "y"))
    fill(reading, 3_200_000)
    tight.end_turn(3)
    assert slow.connection.is_open() and not reading.connection.is_open()
    assert closed_with(reading) == 1013
    asyncio_tasks = len(asyncio.all_tasks(tight.loop))
    assert asyncio_tasks == 1
    assert CLOSE not in {each.opcode for each in slow.frames()}
