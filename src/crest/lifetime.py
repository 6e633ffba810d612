"""What an app does beside its connections: as it starts, as it ends, and in one process only."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from inspect import isawaitable
from typing import Any, Final

from crest.log import logger

Function = Callable[[], Any]
"""A function of the application, plain or async."""

FIRST_WAIT: Final = 1.0
"""Seconds until a function of `once` runs again that has failed; twice as many after each further failure."""

LONGEST_WAIT: Final = 30.0
"""Seconds at most; and a function that had run for longer is taken for one that had not failed before."""

PARTING: Final = 1.0
"""Seconds for cancelled functions of `once` to end."""


class Lifetime:
    """The functions of one app. It may run several times, one after the other.

    Attributes:
        on_start: Are called in this order, before clients are let in.
        on_stop: Are called in reverse order, when all connections have ended. What was begun last ends first.
        once: Run in one process at a time.
        left: Is called when the functions of `once` have been cancelled; None: nothing is.
    """

    def __init__(self) -> None:
        self.on_start: list[Function] = []
        self.on_stop: list[Function] = []
        self.once: list[Function] = []
        self.left: Callable[[], None] | None = None
        self._started = self._hurried = False
        self._limit: asyncio.Timeout | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Call those of `on_start`. What one raises is raised: the app does not start, and no `on_stop` is called."""
        self._hurried = False
        for function in self.on_start:
            await _call(function)
        self._started = True

    async def stop(self, timeout: float) -> None:
        """Call those of `on_stop`, if the app had started. What one raises is logged, and the others are called.

        Args:
            timeout: Seconds that each may take; then it is cancelled.
        """
        functions = reversed(self.on_stop) if self._started else ()
        self._started = False
        cancelled: asyncio.CancelledError | None = None
        for function in functions:
            limit = self._limit = asyncio.timeout(0 if self._hurried else timeout)
            try:
                async with limit:
                    await _call(function)
            except asyncio.CancelledError as error:
                cancelled = error
                logger.error("on_stop: %s was cancelled", _name_of(function))
            except Exception:
                if limit.expired():
                    logger.error("on_stop: %s took too long, and was cancelled", _name_of(function))
                else:
                    logger.exception("on_stop: %s failed", _name_of(function))
        self._limit = None
        if cancelled is not None:
            raise cancelled

    def hurry(self) -> None:
        """Wait no longer for functions of `on_stop`: those that wait for something are cancelled."""
        self._hurried = True
        if self._limit is not None and not self._limit.expired():
            self._limit.reschedule(0)

    # ---- Once ----------------------------------------------------------------------------------------------------

    def take_once(self) -> None:
        """Run the functions of `once` here, until `leave_once`."""
        for function in self.once:
            task = asyncio.get_running_loop().create_task(_keep_running(function))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def leave_once(self) -> None:
        """End the functions of `once`: they are cancelled."""
        tasks = set(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=PARTING)
        for task in tasks:
            if not task.done():
                logger.error("once: a function was cancelled, and goes on: %r", task.get_coro())
        if self.left is not None:
            self.left()


async def _call(function: Function) -> None:
    result = function()
    if isawaitable(result):
        await result


async def _keep_running(function: Function) -> None:
    """Call a function until it returns: one that fails is called again, after a while."""
    time, wait = asyncio.get_running_loop().time, FIRST_WAIT
    while True:
        began = time()
        try:
            await _call(function)
        except Exception:
            if time() - began > LONGEST_WAIT:
                wait = FIRST_WAIT
            logger.exception("once: %s failed, and is called again in %g s", _name_of(function), wait)
            await asyncio.sleep(wait)
            wait = min(2 * wait, LONGEST_WAIT)
        else:
            return


def _name_of(function: Function) -> str:
    return getattr(function, "__qualname__", None) or repr(function)
