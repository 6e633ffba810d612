"""crest.listening.signals: one signal reaches all apps of a loop, and what handled it before comes back."""

import asyncio
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import LoopFactory
from support.client import GUARD, connect
from support.events import Events, on_each_loop, turns

from crest import App, WebSocketServer
from crest.listening.signals import handling

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals on Windows")

TERM = signal.SIGTERM


@pytest.fixture(autouse=True)
def passed() -> Iterator[list[int]]:
    """The signals that reached what had been there before; it, and the wake-up descriptor, must be there afterwards."""
    caught: list[int] = []

    def handler(number: int, frame: object) -> None:
        caught.append(number)

    found = signal.signal(TERM, handler)
    wakeup = wakeup_fd()
    yield caught
    now = signal.signal(TERM, found)
    assert now is handler
    assert wakeup_fd() == wakeup


def wakeup_fd() -> int:
    found = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(found, warn_on_full_buffer=False)
    return found


class Served(App):
    """An app with a server, being served."""

    def __init__(self) -> None:
        super().__init__(shutdown_timeout=1000)
        self.ws, self.bound = WebSocketServer(close_timeout=1000), Events()
        self.mount("/ws", self.ws)
        self.task = asyncio.create_task(self.serve("127.0.0.1", 0))

    @asynccontextmanager
    async def listening(self, *args: Any, **options: Any) -> AsyncIterator[Any]:
        async with super().listening(*args, **options) as server:
            self.bound.add(server)
            yield server

    async def server(self) -> Any:
        return (await self.bound.reach(1))[0]


async def served(count: int) -> list[Served]:
    apps = [Served() for _ in range(count)]
    for each in apps:
        await each.server()
    return apps


async def end(*apps: Served) -> None:
    async with asyncio.timeout(GUARD):
        await asyncio.gather(*(each.task for each in apps))


async def cancel(app: Served) -> None:
    app.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await app.task


# ---- Apps of one loop ------------------------------------------------------------------------------------------------


@on_each_loop
async def test_one_signal_ends_all_apps_of_the_loop() -> None:
    apps = await served(3)
    signal.raise_signal(TERM)
    await end(*apps)


@pytest.mark.parametrize("first", [0, 1])
@on_each_loop
async def test_the_others_are_still_reached_when_one_has_ended(first: int) -> None:
    apps = await served(2)
    await cancel(apps.pop(first))
    apps += await served(1)
    signal.raise_signal(TERM)
    await end(*apps)


@on_each_loop
async def test_a_second_signal_hurries_all_of_them() -> None:
    apps, started = await served(2), Events()

    async def closed(conn: Any, code: int, reason: str) -> None:
        started.add(code)
        await asyncio.Event().wait()

    clients = []
    for each in apps:
        each.ws.on_close(closed)
        clients.append(await connect(await each.server()))
    signal.raise_signal(TERM)
    await started.reach(2)
    signal.raise_signal(TERM)
    await end(*apps)
    for client in clients:
        await client.close()


@on_each_loop
async def test_a_signal_that_only_one_app_knows_is_put_back_with_it() -> None:
    number, heard = signal.SIGHUP, Events()
    before = signal.getsignal(number)
    (app,) = await served(1)
    with handling({number: lambda: heard.add("reload")}):
        signal.raise_signal(number)
        await heard.reach(1)
    assert signal.getsignal(number) == before
    signal.raise_signal(TERM)
    await end(app)


# ---- What was there before -------------------------------------------------------------------------------------------


@on_each_loop
async def test_the_loops_own_handler_is_there_afterwards(passed: list[int]) -> None:
    loop, called = asyncio.get_running_loop(), Events()
    before = signal.getsignal(TERM)
    loop.add_signal_handler(TERM, called.add, "the program's")
    found, wakeup = signal.getsignal(TERM), wakeup_fd()
    apps = await served(2)
    signal.raise_signal(TERM)
    await end(*apps)
    await called.reach(1)
    assert (signal.getsignal(TERM), wakeup_fd()) == (found, wakeup)
    signal.raise_signal(TERM)
    await called.reach(2)
    loop.remove_signal_handler(TERM)
    signal.signal(TERM, before)
    assert passed == []


@on_each_loop
async def test_the_loops_own_handler_that_cancels_an_app_does_not_hurry_it() -> None:
    loop, before, closed = asyncio.get_running_loop(), signal.getsignal(TERM), Events()
    apps: list[Served] = []
    loop.add_signal_handler(TERM, lambda: apps[0].task.cancel())
    apps += await served(1)

    @apps[0].ws.on_close
    async def slow(conn: Any, code: int, reason: str) -> None:
        await turns(100)  # in a hurry, it would be cancelled
        closed.add(code)

    client = await connect(await apps[0].server())
    signal.raise_signal(TERM)
    with pytest.raises(asyncio.CancelledError):
        await apps[0].task
    assert closed.seen == [1012]
    await client.close()
    loop.remove_signal_handler(TERM)
    signal.signal(TERM, before)


@on_each_loop
async def test_a_handler_that_the_program_sets_meanwhile_remains() -> None:
    before, called = signal.getsignal(TERM), Events()
    (app,) = await served(1)
    signal.signal(TERM, lambda number, frame: called.add(number))
    mine = signal.getsignal(TERM)
    signal.raise_signal(TERM)
    await called.reach(1)
    await cancel(app)
    assert signal.getsignal(TERM) is mine
    signal.signal(TERM, before)


@on_each_loop
async def test_a_handler_that_is_called_when_its_apps_have_ended_passes_the_signal_on(passed: list[int]) -> None:
    """Somebody had saved it, and has put it back."""
    (app,) = await served(1)
    saved = signal.getsignal(TERM)
    await cancel(app)
    signal.signal(TERM, saved)
    signal.raise_signal(TERM)
    assert passed == [TERM]


@on_each_loop
async def test_a_handler_that_is_not_pythons_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(TERM)
    with monkeypatch.context() as patched:
        patched.setattr(signal, "getsignal", lambda number: None)
        with handling({TERM: lambda: None}):
            pass
        with handling({TERM: lambda: None}):
            patched.undo()
            assert signal.getsignal(TERM) is before


def test_runs_own_handling_of_ctrl_c_comes_back(loop_factory: LoopFactory) -> None:
    """asyncio's Runner cancels its main task at SIGINT, and raises KeyboardInterrupt when that has ended."""

    async def main() -> None:
        (app,) = await served(1)
        signal.raise_signal(signal.SIGINT)
        await end(app)
        signal.raise_signal(signal.SIGINT)
        await asyncio.Event().wait()

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(main())
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


# ---- Several loops ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [0, 1])
def test_what_several_loops_have_found_comes_back_in_any_order(
    loop_factory: LoopFactory, passed: list[int], first: int
) -> None:
    before, loops, heard = signal.getsignal(TERM), [loop_factory(), loop_factory()], Events()
    stacks = [ExitStack(), ExitStack()]

    async def enter(number: int) -> None:
        stacks[number].enter_context(handling({TERM: lambda: heard.add(number)}))

    async def leave(number: int) -> None:
        stacks[number].close()

    try:
        for number in (0, 1):
            loops[number].run_until_complete(enter(number))
        loops[first].run_until_complete(leave(first))
        signal.raise_signal(TERM)
        loops[1 - first].run_until_complete(heard.reach(1))
        assert heard.seen == [1 - first]
        loops[1 - first].run_until_complete(leave(1 - first))
        assert signal.getsignal(TERM) is before
        signal.raise_signal(TERM)
        assert passed == [TERM]
    finally:
        for each in loops:
            each.close()


@pytest.mark.parametrize("by", ["signal", "app"])
def test_a_loop_that_was_closed_under_its_apps_has_no_signals_any_more(
    loop_factory: LoopFactory, passed: list[int], by: str
) -> None:
    loop, stack = loop_factory(), ExitStack()

    async def enter() -> None:
        stack.enter_context(handling({TERM: lambda: pytest.fail("the loop is closed")}))

    async def again() -> None:
        with handling({TERM: lambda: None}):
            pass

    loop.run_until_complete(enter())
    loop.close()
    if by == "signal":
        signal.raise_signal(TERM)
        assert passed == [TERM]
    else:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(again())
    stack.close()


def test_another_thread_has_no_signals(loop_factory: LoopFactory) -> None:
    before, found = signal.getsignal(TERM), []

    async def main() -> None:
        with handling({TERM: lambda: None}):
            found.append(signal.getsignal(TERM))

    def run() -> None:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(main())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [before]


# ---- Waking up -------------------------------------------------------------------------------------------------------


def test_a_signal_wakes_a_loop_that_waits(passed: list[int]) -> None:
    """Also one that another thread was interrupted by: nothing else tells asyncio's loops."""

    async def main() -> None:
        with handling({TERM: lambda: None}):
            assert wakeup_fd() != -1
        assert wakeup_fd() == -1

    with asyncio.Runner() as runner:
        runner.run(main())


@on_each_loop
async def test_a_descriptor_that_the_program_sets_meanwhile_remains() -> None:
    before, number = wakeup_fd(), signal.SIGUSR2
    loop, called = asyncio.get_running_loop(), Events()
    with handling({TERM: lambda: None}):
        loop.add_signal_handler(number, called.add, "it")
        mine = wakeup_fd()
    assert wakeup_fd() == mine
    signal.raise_signal(number)
    await called.reach(1)
    loop.remove_signal_handler(number)
    signal.set_wakeup_fd(before)


def test_a_descriptor_that_another_loop_has_found_may_be_put_back_at_any_time(loop_factory: LoopFactory) -> None:
    """Loops do so when they stop; it must not be another file by then."""
    found: list[int] = []

    async def main() -> None:
        with handling({TERM: lambda: None}):
            found.append(wakeup_fd())

    before = wakeup_fd()
    with asyncio.Runner() as runner:
        runner.run(main())
    signal.set_wakeup_fd(found[0])
    try:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(main())
    finally:
        signal.set_wakeup_fd(before)


def test_a_descriptor_that_was_closed_is_none(tmp_path: Path) -> None:
    async def main() -> None:
        with handling({TERM: lambda: None}):
            assert wakeup_fd() not in (-1, closed)

    before, closed = wakeup_fd(), os.open(tmp_path / "file", os.O_CREAT | os.O_NONBLOCK)
    signal.set_wakeup_fd(closed)
    os.close(closed)
    try:
        with asyncio.Runner() as runner:
            runner.run(main())
    finally:
        signal.set_wakeup_fd(before)
