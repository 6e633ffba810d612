"""One run of an app: from its start until it is told to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from crest.lifetime import Lifetime
from crest.listening.listener import Listener


class Run:
    """A run, in the task that makes this.

    Args:
        lifetime: The app's.
    """

    def __init__(self, lifetime: Lifetime) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._lifetime = lifetime
        self._listener: Listener | None = None
        self._stopped = asyncio.Event()
        self._cancelled = 0

    async def serve(
        self, listening: AbstractAsyncContextManager[Listener], serves: Callable[[], None] | None = None
    ) -> None:
        """Serve until `stop`.

        Args:
            listening: The app, listening.
            serves: Is called when clients are let in.
        """
        try:
            async with listening as self._listener:
                if serves is not None:
                    serves()
                await self._stopped.wait()
        except asyncio.CancelledError:
            if self._task.cancelling() > self._cancelled or not self._cancelled:
                raise
        finally:
            for _ in range(self._cancelled):
                self._task.uncancel()

    def stop(self) -> None:
        """Shut down; at a second call without waiting for clients. While it starts, what it waits for is cancelled."""
        if self._listener is None:
            self._cancelled += self._task.cancel()
        elif self._stopped.is_set():
            self._listener.hurry()
            self._lifetime.hurry()
        self._stopped.set()

    def reload(self) -> None:
        """Read the certificate again."""
        if self._listener is not None:
            self._listener.reload()


def loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """Return what makes the event loop that `App.run` was asked for.

    Raises:
        ValueError: There is no such.
        ImportError: uvloop is not installed.
    """
    if name not in ("auto", "uvloop", "asyncio"):
        raise ValueError(f"loop must be 'auto', 'uvloop' or 'asyncio', not {name!r}")
    if name != "asyncio":
        try:
            import uvloop
        except ImportError:
            if name == "uvloop":
                raise
        else:
            return uvloop.new_event_loop
    return asyncio.new_event_loop
