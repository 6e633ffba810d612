"""crest.io.life.inbox: async handlers of one connection run one at a time and in order, until its end."""

import asyncio
import gc
import logging
from collections.abc import Awaitable
from typing import Any

import pytest
from support.client import BINARY, close_frame, frame
from support.eager import EVERYWHERE, first_step_at_once
from support.link import Link, Scene, closed_with, scene, text


class Gates:
    """An async handler for each event, which waits until the test lets it go."""

    def __init__(self, stage: Scene) -> None:
        self.stage = stage
        self.begun: list[object] = []
        self.ended: list[object] = []
        self.waiting: dict[object, asyncio.Future[None]] = {}

    async def handler(self, conn: object, *arguments: object) -> None:
        what = arguments[0] if arguments else "connect"
        self.begun.append(what)
        self.waiting[what] = self.stage.loop.create_future()
        await self.waiting[what]
        self.ended.append(what)

    def let_go(self, what: object) -> None:
        self.stage.end_turn()
        self.waiting.pop(what).set_result(None)
        self.stage.end_turn(3)


@pytest.fixture
def gates(stage: Scene) -> Gates:
    made = Gates(stage)
    stage.hub.on_message = made.handler
    return made


# --- Order


def test_eager_handlers_of_what_comes_before_the_end(stage: Scene) -> None:
    """What was held back is read at the end of the connection, and each task has ended before its `deliver` returns."""
    stage.loop.set_task_factory(first_step_at_once)
    gate, calls = stage.loop.create_future(), list[Any]()

    async def received(conn: Any, message: str) -> None:
        calls.append(message)
        if message == "first":
            conn.link.transport.closing = True  # as for an end that is on its way: it is not told to pause
            await gate

    async def closed(conn: Any, code: int, reason: str) -> None:
        assert not stage.site.gone, "its handlers have not ended"
        calls.append(code)

    stage.hub.on_message, stage.hub.on_close = received, closed
    link = stage.link()
    texts = ["first", *map(str, range(2 * stage.hub.max_queue))]
    link.receive(b"".join(map(text, texts)))
    assert calls == ["first"]
    gate.set_result(None)
    stage.end_turn(3)
    link.transport.closing = False
    link.transport.abort()
    stage.end_turn(3)
    assert calls == [*texts, 1006]
    assert stage.site.gone == [link.protocol]


def test_plain_handlers_are_called_at_once(stage: Scene) -> None:
    calls: list[tuple[Any, ...]] = []
    stage.hub.on_connect = lambda conn: calls.append(("connect", conn))
    stage.hub.on_message = lambda conn, message: calls.append(("message", conn, message))
    stage.hub.on_binary = lambda conn, data: calls.append(("binary", conn, data))
    stage.hub.on_close = lambda conn, code, reason: calls.append(("close", conn, code, reason))
    link = stage.link()
    conn = link.connection
    assert calls == [("connect", conn)]
    link.receive(text("ä") + frame(BINARY, b"\xff") + close_frame(4000, "bye"))
    assert calls[1:] == [("message", conn, "ä"), ("binary", conn, b"\xff"), ("close", conn, 4000, "bye")]


def test_async_handlers_of_one_connection_run_one_at_a_time(stage: Scene, gates: Gates) -> None:
    link = stage.link()
    link.receive(text("1") + text("2"))
    link.receive(text("3"))
    stage.end_turn(5)
    assert gates.begun == ["1"]
    gates.let_go("1")
    assert (gates.begun, gates.ended) == (["1", "2"], ["1"])
    gates.let_go("2")
    gates.let_go("3")
    assert gates.ended == ["1", "2", "3"]


def test_different_connections_do_not_wait_for_each_other(stage: Scene, gates: Gates) -> None:
    one, other = stage.link(), stage.link()
    one.receive(text("1"))
    other.receive(text("2"))
    stage.end_turn()
    assert gates.begun == ["1", "2"]
    gates.let_go("2")
    gates.let_go("1")


def test_what_comes_meanwhile_waits_for_on_connect(stage: Scene) -> None:
    gates = Gates(stage)
    stage.hub.on_connect = gates.handler
    calls: list[str] = []
    stage.hub.on_message = lambda conn, message: calls.append(message)
    link = stage.link(rest=text("1"))
    link.receive(text("2"))
    stage.end_turn(3)
    assert calls == []
    gates.let_go("connect")
    assert calls == ["1", "2"]
    link.receive(text("3"))
    assert calls == ["1", "2", "3"], "nothing waits any more: plain functions are called at once again"


def test_plain_and_async_results_of_one_handler(stage: Scene) -> None:
    gates = Gates(stage)
    calls: list[str] = []

    def mixed(conn: object, message: str) -> Awaitable[None] | bool | None:
        calls.append(message)
        return gates.handler(conn, message) if message == "wait" else True

    stage.hub.on_message = mixed
    link = stage.link()
    link.receive(text("1") + text("wait") + text("2"))
    stage.end_turn()
    assert calls == ["1", "wait"]
    gates.let_go("wait")
    assert calls == ["1", "wait", "2"]


def test_a_future_is_awaited_too(stage: Scene) -> None:
    future = stage.loop.create_future()
    calls: list[str] = []
    stage.hub.on_message = lambda conn, message: calls.append(message) or future
    link = stage.link()
    link.receive(text("1") + text("2"))
    stage.end_turn()
    assert calls == ["1"]
    future.set_result(None)
    stage.end_turn(3)
    assert calls == ["1", "2"]


def test_on_close_comes_last(stage: Scene, gates: Gates) -> None:
    link = stage.link()
    link.receive(text("1") + text("2") + close_frame(4000, "bye"))
    stage.end_turn(3)
    assert stage.seen(link) == []
    gates.let_go("1")
    gates.let_go("2")
    assert stage.seen(link) == [("close", 4000, "bye")]
    link.transport.end()
    stage.end_turn(3)
    assert len(stage.seen(link)) == 1


def test_messages_before_an_end_without_a_close_frame_are_handled(stage: Scene, gates: Gates) -> None:
    link = stage.link()
    link.receive(text("1") + text("2"))
    link.transport.end()
    stage.end_turn(3)
    assert stage.site.gone == [], "its handlers have not ended"
    gates.let_go("1")
    gates.let_go("2")
    assert gates.ended == ["1", "2"]
    assert stage.seen(link) == [("close", 1006, "")]
    assert stage.site.gone == [link.protocol]
    assert stage.pending() == []


def test_tasks_that_can_not_be_made(stage: Scene) -> None:
    """A task factory that raises is like a handler that does: the connection ends, and others do not notice."""

    def failing(loop: asyncio.AbstractEventLoop, work: Any, **_: object) -> Any:
        raise MemoryError

    async def handler(conn: object, *_: object) -> None:
        calls.append(conn)

    calls: list[object] = []
    link, other = stage.link(), stage.link()
    stage.hub.on_message, stage.hub.on_error = handler, None
    stage.loop.set_task_factory(failing)
    link.receive(text("1") + text("2"))
    stage.loop.set_task_factory(None)
    stage.end_turn()
    assert closed_with(link) == 1011
    assert calls == []
    link.receive(close_frame(1011))
    stage.end_turn(2)
    assert stage.seen(link) == [("close", 1011, "")]
    other.receive(text("3"))
    stage.end_turn()
    assert calls == [other.connection]


# --- The bound


def test_a_flood_is_not_read_while_a_handler_is_behind(direct: bool) -> None:
    with scene(direct=direct, max_queue=4) as stage:
        gates = Gates(stage)
        stage.hub.on_message = gates.handler
        link = stage.link()
        for i in range(5):
            assert link.transport.reading, "one is being handled, fewer than four wait"
            link.receive(text(str(i)))
        assert not link.transport.reading
        link.receive(b"".join(text(str(i)) for i in range(5, 100)))
        for i in range(2):
            gates.let_go(str(i))
            assert not link.transport.reading, "more than half of them wait"
        gates.let_go("2")
        assert link.transport.reading
        for i in range(3, 100):
            link.receive(b"")
            gates.let_go(str(i))
        assert gates.ended == [str(i) for i in range(100)]
        assert link.transport.reading


def test_a_chunk_of_many_messages_is_held(direct: bool) -> None:
    """The rest of the chunk is kept, and nothing of it is lost, nor delivered before what waits."""
    with scene(direct=direct, max_queue=2) as stage:
        gates = Gates(stage)
        stage.hub.on_message = gates.handler
        link = stage.link()
        link.receive(b"".join(text(str(i)) for i in range(50)) + text("un")[:5])
        assert not link.transport.reading
        assert link.transport.calls.count("pause_reading") == 1
        for i in range(50):
            gates.let_go(str(i))
        assert link.transport.reading
        link.receive(text("un")[5:])
        gates.let_go("un")
        assert gates.ended == [*(str(i) for i in range(50)), "un"]
        assert link.transport.calls.count("resume_reading") == link.transport.calls.count("pause_reading")


def test_what_was_underway_when_reading_was_paused_counts(direct: bool) -> None:
    """A transport may deliver one chunk more."""
    with scene(direct=direct, max_queue=1) as stage:
        gates = Gates(stage)
        stage.hub.on_message = gates.handler
        link = stage.link()
        chunk = text("1") + text("2") + text("3") + text("4")[:4]
        link.receive(chunk)
        assert not link.transport.reading
        link.transport.reading = True
        link.receive(text("4")[4:] + text("5"))
        link.receive(text("6"))
        for i in range(1, 7):
            gates.let_go(str(i))
        assert gates.ended == [str(i) for i in range(1, 7)]


def test_control_frames_wait_behind_the_messages_before_them(direct: bool) -> None:
    with scene(direct=direct, max_queue=1) as stage:
        gates = Gates(stage)
        stage.hub.on_message = gates.handler
        link = stage.link()
        link.receive(text("1") + text("2") + text("3") + close_frame(4000))
        link.transport.end()
        stage.end_turn(2)
        for each in "123":
            gates.let_go(each)
        assert gates.ended == ["1", "2", "3"]
        assert stage.seen(link) == [("close", 4000, "")], "the close frame had come before the connection ended"


def test_close_does_not_wait_for_handlers_that_are_behind(direct: bool) -> None:
    """Whoever closes does not want what comes: it is read on, and thrown away, up to the peer's answer."""
    with scene(direct=direct, max_queue=1) as stage:
        gates = Gates(stage)
        stage.hub.on_message = gates.handler
        link = stage.link()
        link.receive(text("1") + text("2") + text("3") + text("4"))
        assert not link.transport.reading
        link.connection.close(4000)
        stage.end_turn(2)
        assert closed_with(link) == 4000
        assert link.transport.reading
        link.receive(text("5") + close_frame(4000))
        gates.let_go("1")
        stage.end_turn(2)
        assert gates.begun == ["1"]
        assert stage.seen(link) == [("close", 4000, "")]


# --- The end


def test_handlers_that_outlive_the_connection_are_cancelled(stage: Scene, caplog: pytest.LogCaptureFixture) -> None:
    gates = Gates(stage)
    stage.hub.on_message = gates.handler
    link = stage.link()
    link.receive(text("1") + text("2"))
    link.transport.end()
    stage.end_turn(2)
    assert stage.pending() == [10.0]
    stage.loop.advance(9.9)
    stage.end_turn(3)
    assert stage.site.gone == []
    stage.loop.advance(0.2)
    stage.end_turn(4)
    assert (gates.begun, gates.ended) == (["1"], [])
    assert stage.seen(link) == [("close", 1006, "")], "on_close is never skipped"
    assert stage.site.gone == [link.protocol]
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "was cancelled, 10 s after the connection ended" in caplog.text


def test_an_async_on_close_is_awaited(stage: Scene) -> None:
    gates = Gates(stage)
    stage.hub.on_close = gates.handler
    link = stage.link()
    link.transport.end()
    stage.end_turn(3)
    assert stage.site.gone == []
    gates.let_go(1006)
    assert stage.site.gone == [link.protocol]
    assert stage.pending() == []


def test_an_async_on_close_that_does_not_end_is_cancelled(stage: Scene, caplog: pytest.LogCaptureFixture) -> None:
    gates = Gates(stage)
    stage.hub.on_close = gates.handler
    link = stage.link()
    link.transport.end()
    stage.end_turn(3)
    stage.loop.advance(10.1)
    stage.end_turn(4)
    assert gates.begun == [1006] and gates.ended == []
    assert stage.site.gone == [link.protocol]


@pytest.mark.skipif(EVERYWHERE, reason="an eager task has taken its first step when it is made")
def test_on_close_begins_though_its_time_is_over(stage: Scene) -> None:
    """The loop was busy for as long as the timer: a task cancelled before its first step would never take it."""
    gates = Gates(stage)
    stage.hub.on_close = gates.handler
    link = stage.link()
    link.transport.end()
    stage.end_turn()
    assert stage.pending() == [10.0] and gates.begun == []
    stage.loop.advance(10.1)
    stage.end_turn(4)
    assert gates.begun == [1006]
    assert stage.site.gone == [link.protocol]


def test_on_close_begins_though_the_server_stops(stage: Scene) -> None:
    gates = Gates(stage)
    stage.hub.on_close = gates.handler
    link = stage.link()
    link.protocol.end_now()
    stage.end_turn(5)
    assert gates.begun == [1006] and stage.site.gone == [], "it has its time"
    link.protocol.end_now()
    stage.end_turn(5)
    assert gates.ended == [] and stage.site.gone == [link.protocol]


def test_sends_of_a_handler_that_waits_keep_their_order(stage: Scene) -> None:
    async def answer(conn: Any, message: str) -> None:
        conn.send(message + " first")
        await asyncio.sleep(0)
        conn.send(message + " second")

    stage.hub.on_message = answer
    link: Link = stage.link()
    link.receive(text("a") + text("b"))
    stage.end_turn(8)
    assert link.taken() == ["a first", "a second", "b first", "b second"]


# --- The garbage collector


def test_the_collector_visits_only_who_has_a_task(stage: Scene, gates: Gates) -> None:
    link = stage.link()
    assert not gc.is_tracked(link.protocol)
    for _ in range(2):
        link.receive(text("one") + text("two"))
        stage.end_turn()
        assert gc.is_tracked(link.protocol) and gc.is_tracked(link.connection)
        gates.let_go("one")
        assert gc.is_tracked(link.protocol), "the next one has begun"
        gates.let_go("two")
        assert not gc.is_tracked(link.protocol)
