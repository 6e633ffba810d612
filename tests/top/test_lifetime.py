"""crest.lifetime: what an app does as it starts, as it ends, and once."""

import asyncio
import contextvars
import logging
import signal
from typing import Any

import pytest
from conftest import LoopFactory
from support.client import connect, handshake, tcp
from support.events import KINDS, Events, of_kind, on_each_loop, until

from crest import App, ConfigurationError, WebSocketServer, lifetime
from crest.lifetime import Lifetime

FOREVER = 3600.0


def recorder(events: Events, *names: str, kind: str = "plain") -> list[Any]:
    """A function for each name, which records it."""
    return [of_kind(kind, lambda name=name: events.add(name)) for name in names]


# ---- Its functions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@on_each_loop
async def test_starts_are_called_in_order_and_stops_in_reverse(kind: str) -> None:
    events, life = Events(), Lifetime()
    life.on_start += recorder(events, "first", "second", kind=kind)
    life.on_stop += recorder(events, "opened first", "opened last", kind=kind)
    for _ in range(2):  # it may run again
        await life.start()
        await life.stop(FOREVER)
    assert events.seen == ["first", "second", "opened last", "opened first"] * 2


@on_each_loop
async def test_what_a_start_raises_is_raised_and_nothing_more_is_called() -> None:
    events, life = Events(), Lifetime()

    def fail() -> None:
        raise ValueError("no database")

    life.on_start += [*recorder(events, "first"), fail, *recorder(events, "never")]
    life.on_stop += recorder(events, "stopped")
    with pytest.raises(ValueError, match="no database"):
        await life.start()
    await life.stop(FOREVER)
    assert events.seen == ["first"]


@on_each_loop
async def test_what_a_stop_raises_is_logged_and_the_others_are_called(caplog: pytest.LogCaptureFixture) -> None:
    events, life = Events(), Lifetime()

    async def fails() -> None:
        raise TimeoutError("the database's own")

    life.on_stop += [*recorder(events, "called"), fails]
    await life.start()
    await life.stop(FOREVER)
    assert events.seen == ["called"]
    (record,) = caplog.records
    assert record.getMessage().endswith("fails failed") and record.exc_info is not None


@on_each_loop
async def test_a_stop_that_takes_too_long_is_cancelled(caplog: pytest.LogCaptureFixture) -> None:
    events, life = Events(), Lifetime()
    life.on_stop += [*recorder(events, "called"), asyncio.Event().wait]
    await life.start()
    await life.stop(0.001)
    assert events.seen == ["called"]
    (message,) = caplog.messages
    assert "wait took too long, and was cancelled" in message


@on_each_loop
async def test_hurrying_cancels_what_waits_and_calls_the_others(caplog: pytest.LogCaptureFixture) -> None:
    events, life = Events(), Lifetime()
    waits = asyncio.Event()

    async def waiting() -> None:
        waits.set()
        await asyncio.Event().wait()

    life.on_stop += [*recorder(events, "called"), waiting, waiting]
    await life.start()
    stopping = asyncio.ensure_future(life.stop(FOREVER))
    await until(waits)
    life.hurry()
    life.hurry()
    await stopping
    assert events.seen == ["called"]
    assert len(caplog.messages) == 2
    assert stopping.cancelling() == 0


@on_each_loop
async def test_cancelling_a_stop_calls_the_others_and_is_raised_then() -> None:
    events, life = Events(), Lifetime()
    waits = asyncio.Event()

    async def waiting() -> None:
        waits.set()
        await asyncio.Event().wait()

    life.on_stop += [*recorder(events, "called"), waiting]
    await life.start()
    stopping = asyncio.ensure_future(life.stop(FOREVER))
    await until(waits)
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    assert events.seen == ["called"]


@on_each_loop
async def test_starts_and_stops_share_a_task_and_its_context() -> None:
    """So a task group may be entered by the one, and left by the other."""
    life, group = Lifetime(), asyncio.TaskGroup()
    variable = contextvars.ContextVar("variable", default="unset")
    seen: list[str] = []

    async def enter() -> None:
        variable.set("set")
        await group.__aenter__()

    async def leave() -> None:
        seen.append(variable.get())
        await group.__aexit__(None, None, None)

    life.on_start.append(enter)
    life.on_stop.append(leave)
    await life.start()
    group.create_task(asyncio.sleep(0))
    await life.stop(FOREVER)
    assert seen == ["set"]


# ---- Once ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@on_each_loop
async def test_what_returns_is_not_called_again(kind: str) -> None:
    events, life = Events(), Lifetime()
    life.once += recorder(events, "called", kind=kind)
    life.take_once()
    await events.reach(1)
    await life.leave_once()
    assert events.seen == ["called"]


@on_each_loop
async def test_what_fails_is_logged_and_called_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lifetime, "FIRST_WAIT", 0.0)
    events, life = Events(), Lifetime()

    async def ticker() -> None:
        events.add("called")
        if len(events.seen) < 3:
            raise ValueError("a bad tick")

    life.once.append(ticker)
    life.take_once()
    await events.reach(3)
    await life.leave_once()
    assert len(events.seen) == 3
    assert [record.exc_info is not None for record in caplog.records] == [True, True]
    assert "ticker failed, and is called again in 0 s" in caplog.messages[0]


@on_each_loop
async def test_it_waits_longer_each_time_and_not_after_a_long_success(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    now = 0.0

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    class Loop:
        def time(self) -> float:
            return now

    def fail() -> None:
        nonlocal now
        if len(waits) == 7:
            now += lifetime.LONGEST_WAIT + 1
        if len(waits) < 9:
            raise ValueError

    monkeypatch.setattr(lifetime.asyncio, "sleep", sleep)
    monkeypatch.setattr(lifetime.asyncio, "get_running_loop", Loop)
    await lifetime._keep_running(fail)
    assert waits == [1, 2, 4, 8, 16, 30, 30, 1, 2]


@on_each_loop
async def test_leaving_cancels_it_and_waits_for_its_end() -> None:
    events, life = Events(), Lifetime()

    async def ticker() -> None:
        events.add("begun")
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            events.add("ended")

    life.once.append(ticker)
    life.take_once()
    await events.reach(1)
    await life.leave_once()
    assert events.seen == ["begun", "ended"]
    life.take_once()  # taken back
    await events.reach(3)
    await life.leave_once()
    assert len(events.seen) == 4


@on_each_loop
async def test_what_ignores_its_cancellation_is_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lifetime, "PARTING", 0.001)
    events, life, enough = Events(), Lifetime(), asyncio.Event()

    async def stubborn() -> None:
        events.add("begun")
        while not enough.is_set():
            try:
                await enough.wait()
            except asyncio.CancelledError:
                events.add("ignored")

    life.once.append(stubborn)
    life.take_once()
    await events.reach(1)
    await life.leave_once()
    assert "a function was cancelled, and goes on" in caplog.text
    enough.set()
    await events.reach(2)


# ---- Of an app -------------------------------------------------------------------------------------------------------


def test_an_app_registers_them() -> None:
    app = App()

    @app.on_start
    def start() -> None: ...
    @app.on_stop
    async def stop() -> None: ...
    @app.once
    async def once() -> None: ...

    assert (app._lifetime.on_start, app._lifetime.on_stop, app._lifetime.once) == ([start], [stop], [once])


@pytest.mark.parametrize("name", ["on_start", "on_stop", "once"])
def test_wrong_functions_are_refused(name: str) -> None:
    app: Any = App()
    with pytest.raises(TypeError, match=f"{name} registers a function, not int"):
        getattr(app, name)(5)
    with pytest.raises(TypeError, match=f"write @app.{name}, without parentheses"):
        getattr(app, name)()

    async def yields() -> Any:
        yield

    with pytest.raises(TypeError, match="this one yields"):
        getattr(app, name)(yields)


@on_each_loop
async def test_no_client_is_let_in_before_the_start_is_over() -> None:
    events, app, ws = Events(), App(), WebSocketServer()
    may_start = asyncio.Event()
    app.mount("/ws", ws)

    @app.on_start
    async def start() -> None:
        events.add("starts")
        await may_start.wait()
        events.add("started")

    @ws.on_connect
    def connected(conn: Any) -> None:
        events.add("connected")

    @ws.on_close
    def closed(conn: Any, code: int, reason: str) -> None:
        events.add("closed")

    @app.on_stop
    def stop() -> None:
        events.add("stopped")

    @app.once
    async def ticker() -> None:
        events.add("ticks")
        try:
            await asyncio.Event().wait()
        finally:
            events.add("ticks no more")

    async def client() -> None:
        await events.reach(1)
        (listener,) = [each for each in [app._listener] if each is not None]
        async with tcp(listener) as early:  # the socket is bound: it waits
            await early.send(handshake())
            await asyncio.sleep(0)
            may_start.set()
            await early.answer()
            await events.reach(4)

    visiting = asyncio.ensure_future(client())
    async with app.listening():
        await visiting
        for too_late in (app.on_start, app.once):
            with pytest.raises(ConfigurationError, match=r"runs already: .* comes too late"):
                too_late(stop)
    assert events.seen[:2] == ["starts", "started"]
    assert sorted(events.seen[2:4]) == ["connected", "ticks"]
    assert events.seen[-1] == "stopped"
    assert set(events.seen[4:6]) == {"closed", "ticks no more"}


@on_each_loop
async def test_an_app_whose_start_fails_does_not_listen_and_may_start_again() -> None:
    app, fails = App(), True

    @app.on_start
    async def start() -> None:
        if fails:
            raise ValueError("no database")

    with pytest.raises(ValueError, match="no database"):
        async with app.listening():
            raise AssertionError("it serves")
    fails = False
    async with app.listening() as listener:
        assert listener.port


@on_each_loop
async def test_stopping_waits_for_no_start(loop_factory: LoopFactory) -> None:
    """A signal that comes while a function of `on_start` waits cancels that, and ends `serve` without an error."""
    app, begun = App(), asyncio.Event()

    @app.on_start
    async def start() -> None:
        begun.set()
        await asyncio.Event().wait()

    serving = asyncio.ensure_future(app.serve(port=0))
    await until(begun)
    signal.raise_signal(signal.SIGTERM)
    await serving
    assert serving.cancelling() == 0


@on_each_loop
async def test_cancelling_serve_while_it_starts_is_raised() -> None:
    app, begun = App(), asyncio.Event()

    @app.on_start
    async def start() -> None:
        begun.set()
        await asyncio.Event().wait()

    serving = asyncio.ensure_future(app.serve(port=0))
    await until(begun)
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving


@on_each_loop
async def test_a_stop_runs_even_if_serve_is_cancelled(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "crest")
    events, app, ws = Events(), App(), WebSocketServer()
    app.mount("/ws", ws)
    ws.on_connect(lambda conn: events.add("connected"))
    app.on_stop(lambda: events.add("stopped"))
    begun = asyncio.Event()
    app.once(begun.set)
    serving = asyncio.ensure_future(app.serve(port=0))
    await until(begun)
    async with connect(app._listener):
        await events.reach(1)
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
    assert events.seen == ["connected", "stopped"]
