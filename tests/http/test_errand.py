"""crest.http.errand: what a thread does for a coroutine, which hears of its end whatever goes wrong."""

import asyncio
import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import pytest

from crest.http.errand import _Errand, in_thread

GUARD = 20
"""Seconds after which what is waited for does not happen any more."""


class Forgetful(asyncio.SelectorEventLoop):
    """A loop without memory, for so many calls: nothing that threads, or it itself, would have it call is called."""

    from_threads = from_itself = 0

    def call_soon_threadsafe(self, callback: Callable[..., object], *args: Any, context: Any = None) -> asyncio.Handle:
        if self.from_threads:
            self.from_threads -= 1
            raise MemoryError
        return super().call_soon_threadsafe(callback, *args, context=context)

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Any = None) -> asyncio.Handle:
        if self.from_itself and "_Errand" in repr(args):
            self.from_itself -= 1
            raise MemoryError
        return super().call_soon(callback, *args, context=context)


def run(coroutine: Any) -> Any:
    with asyncio.Runner(loop_factory=Forgetful) as runner:
        return runner.run(asyncio.wait_for(coroutine, GUARD))


def test_what_it_returns_and_raises() -> None:
    async def main() -> None:
        assert await in_thread(divmod, 7, 2) == (3, 1)
        assert await in_thread(threading.get_ident) != threading.get_ident()
        with pytest.raises(ZeroDivisionError):
            await in_thread(divmod, 7, 0)

    run(main())


def test_the_task_keeps_its_context() -> None:
    name = ContextVar[str]("name")

    async def main() -> None:
        name.set("a")
        await in_thread(int)
        assert name.get() == "a"

    run(main())


@pytest.mark.parametrize("times", [1, 3])
def test_a_thread_that_can_not_wake_the_loop_tries_again(times: int) -> None:
    """The first time the executor itself has no memory for its own future, which nothing waits for."""
    started = threading.Event()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, Forgetful)
        loop.from_threads = times
        assert await in_thread(started.wait, GUARD) is True
        assert loop.from_threads == 0

    async def start() -> None:
        asyncio.get_running_loop().call_later(0, started.set)  # the task waits by then
        await main()

    run(start())


def test_an_end_before_it_is_awaited() -> None:
    """The thread is done before the task waits, and the loop has no memory to go on with the task: the thread has."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, Forgetful)
        errand, told = _Errand(loop, int, ("5",)), asyncio.Event()
        thread = threading.Thread(target=errand.run)
        thread.start()
        while not errand.done():
            pass
        loop.from_itself = 1
        errand.add_done_callback(lambda _: told.set())
        await told.wait()
        thread.join(GUARD)
        assert (loop.from_itself, errand.result()) == (0, 5)

    run(main())


def test_an_executor_that_raises_and_runs_it() -> None:
    """The thread does not wait for a task that will never wait."""
    threads: list[threading.Thread] = []

    async def main() -> None:
        def submit(executor: Any, work: Callable[[], None]) -> None:
            threads.append(threading.Thread(target=work))
            threads[0].start()
            raise MemoryError("no thread")

        asyncio.get_running_loop().run_in_executor = submit  # type: ignore[assignment, method-assign]
        with pytest.raises(MemoryError, match="no thread"):
            await in_thread(int)

    run(main())
    threads[0].join(GUARD)
    assert not threads[0].is_alive()


def test_cancelled_while_it_runs() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        go_on.wait(GUARD)

    async def main() -> None:
        task = asyncio.create_task(in_thread(work))
        await in_thread(begun.wait, GUARD)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go_on.set()

    run(main())


def test_cancelled_at_its_end() -> None:
    """The thread is done, the task has not been told: the cancellation is not lost."""
    begun = threading.Event()

    async def main() -> None:
        task = asyncio.create_task(in_thread(begun.wait, GUARD))
        await asyncio.sleep(0)
        waited: Any = task._fut_waiter  # type: ignore[attr-defined]
        begun.set()
        while not waited.done():
            pass
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())


def test_a_loop_that_is_closed_meanwhile() -> None:
    """The thread ends."""
    begun, go_on = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        go_on.wait(GUARD)

    loop = Forgetful()

    async def main() -> Any:
        task: Any = asyncio.create_task(in_thread(work))
        await in_thread(begun.wait, GUARD)
        task._log_destroy_pending = False
        return task

    task = loop.run_until_complete(main())
    threads = [thread for thread in threading.enumerate() if "asyncio" in thread.name]
    loop._default_executor.shutdown(wait=False)  # type: ignore[attr-defined]
    loop.close()
    go_on.set()
    for thread in threads:
        thread.join(GUARD)
        assert not thread.is_alive()
    assert not task.done()
