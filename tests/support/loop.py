"""An event loop that turns when a test says so, and whose time passes when it says so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from crest.io.loop.clock import Clock
from crest.io.loop.turn import Turn


class Loop(asyncio.SelectorEventLoop):
    """asyncio's loop, one iteration at a time, with timers that the test fires."""

    def __init__(self) -> None:
        super().__init__()
        self.timers: list[asyncio.TimerHandle] = []
        self.clock = 1000.0
        self.scheduled: list[str] = []

    def time(self) -> float:
        return self.clock

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Any = None) -> asyncio.Handle:
        self.scheduled.append(getattr(callback, "__qualname__", repr(callback)))
        return super().call_soon(callback, *args, context=context)

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(self.clock + delay, callback, args, self, context)
        self.timers.append(timer)
        return timer

    def pending(self) -> list[float]:
        """Seconds to each timer that is set."""
        return [timer.when() - self.clock for timer in self.timers if not timer.cancelled()]

    def advance(self, seconds: float) -> None:
        """Let time pass, firing what falls due; then one turn."""
        self.clock += seconds
        due = [timer for timer in self.timers if timer.when() <= self.clock and not timer.cancelled()]
        self.timers = [timer for timer in self.timers if timer not in due]
        for timer in due:
            timer._run()
        self.turn()

    def turn(self, times: int = 1) -> None:
        """One iteration of the loop: all that was scheduled before it runs."""
        for _ in range(times):
            super().call_soon(self.stop)
            self.run_forever()


def turn_of(loop: Loop, max_backlog_total: int | None = None) -> Turn:
    """A turn whose deadlines run by the loop's own time."""
    return Turn(loop, clock=Clock(loop, loop.time), max_backlog_total=max_backlog_total)
