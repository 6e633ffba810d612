"""An answer to a request that takes time: a decision about an upgrade, or a response."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import Any


class Answer:
    """Makes one answer in a task. An eager task may end within `begin`, before it is known here.

    Args:
        loop: The running loop.
    """

    __slots__ = ("_loop", "_task")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._task: asyncio.Task[None] | None = None

    def begin(self, work: Coroutine[Any, Any, None], *within: Awaitable[Any] | None) -> None:
        """Begin with `work`, which awaits `within`. If there can be no task, all of them are closed."""
        try:
            self._task = self._loop.create_task(work)
        except BaseException:
            for each in (work, *within):
                if isinstance(each, Coroutine):
                    each.close()
            raise

    def is_eager(self) -> bool:
        """True within `begin`, while an eager task takes its first step."""
        return self._task is None

    def cancel(self) -> None:
        """Cancel the task, but not before its first step: what it was to await would never have been awaited."""
        if self._task is not None:
            self._loop.call_soon(self._task.cancel)
