"""Blocking work in a thread, and the coroutine that waits for it.

The loop's `run_in_executor` does that too. But if there is no memory to wake the coroutine, that waits for ever. Here
the thread tries again until there is some.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Generator
from contextvars import Context
from threading import Lock
from typing import Any, Generic, TypeVar

AGAIN = 0.01
"""Seconds after which a thread tries again to wake the loop."""

T = TypeVar("T")


async def in_thread(work: Callable[..., T], *args: Any) -> T:
    """Call `work` in a thread of the loop's default executor.

    If it is cancelled, it does not wait for the end of the call. A call that has not begun by then never does.

    Returns:
        What `work` returns. It may raise anything that `work` does.
    """
    loop = asyncio.get_running_loop()
    errand = _Errand(loop, work, args)
    try:
        running = loop.run_in_executor(None, errand.run)  # without memory this may raise, and run it all the same
        try:
            return await errand
        except asyncio.CancelledError:
            running.cancel()
            raise
    finally:
        errand.told = True


class _Errand(Generic[T]):
    """An awaitable that ends with the work. Futures of asyncio, without memory, forget the task that awaits them.

    Attributes:
        told: True once the task has been told of the end, or awaits it no longer.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, work: Callable[..., T], args: tuple[Any, ...]) -> None:
        self._loop, self._work, self._args = loop, work, args
        self._over = self._cancelled = self.told = False
        self._error: BaseException | None = None
        self._result: T
        self._callback: Callable[..., Any] | None = None
        self._context: Context | None = None
        self._telling = Lock()
        self._asyncio_future_blocking = False

    def run(self) -> None:
        """Do the work, in the thread, and see to it that the task goes on."""
        try:
            self._result = self._work(*self._args)
        except BaseException as error:
            self._error = error
        self._over = True
        while not self.told:
            try:
                self._tell(self._loop.call_soon_threadsafe)
            except MemoryError:
                pass
            except RuntimeError:  # the loop is closed
                return
            if not self.told:
                time.sleep(AGAIN)

    def _tell(self, call_soon: Callable[..., object]) -> None:
        """Have the loop go on with the task: once, though both threads may try."""
        if self._callback is not None and self._telling.acquire(blocking=False):
            try:
                if not self.told:
                    call_soon(self._callback, self, context=self._context)
                    self.told = True
            finally:
                self._telling.release()

    # ---- What tasks call -----------------------------------------------------------------------------------------

    def __await__(self) -> Generator[_Errand[T], None, T]:
        if not self._over:
            self._asyncio_future_blocking = True
            yield self
        return self.result()

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def done(self) -> bool:
        return self._over

    def result(self) -> T:
        if self._cancelled:
            raise asyncio.CancelledError
        error, self._error = self._error, None  # whose traceback refers to this
        if error is not None:
            try:
                raise error
            finally:
                del error
        return self._result

    def add_done_callback(self, callback: Callable[..., Any], *, context: Context | None = None) -> None:
        self._context, self._callback = context, callback
        if self._over:
            try:
                self._tell(self._loop.call_soon)
            except MemoryError:  # the thread tries again
                pass

    def cancel(self, msg: Any = None) -> bool:
        if self._over:
            return False
        self._cancelled = True
        self._tell(self._loop.call_soon)
        return True
