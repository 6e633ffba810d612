"""Signals that reach every app of an event loop, and what handled them before.

All apps of a loop share one handler of each signal. When the last of them has ended, what was there before is back: in
whatever order apps begin and end, of one loop or of several.

The handlers are those of `signal.signal`. A loop does not tell what its `add_signal_handler` was given, so that could
not be put back. It stays with the loop, which calls it as well.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, Final

Action = Callable[[], None]

NONE: Final = -1
"""Stands for no descriptor in `signal.set_wakeup_fd`."""

_in_use: list[Signals] = []


@contextmanager
def handling(actions: Mapping[int, Action]) -> Iterator[None]:
    """Have signals call these on the running loop. In another thread than the main one, no signal does."""
    loop = asyncio.get_running_loop()
    for each in list(_in_use):
        each.clear_if_closed()
    signals = next((each for each in _in_use if each.loop is loop), None) or Signals(loop)
    try:
        with suppress(ValueError):  # not the main thread
            for number, action in actions.items():
                signals.add(number, action)
        yield
    finally:
        for number, action in actions.items():
            signals.remove(number, action)


class Signals:
    """Handles signals for the apps of one loop.

    Args:
        loop: The running loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._actions: dict[int, list[Action]] = {}
        self._before: dict[int, Any] = {}
        self._handler = self._handle  # one object, to be known again
        self._is_in_use = False

    def add(self, number: int, action: Action) -> None:
        """Have a signal call this, too.

        Raises:
            ValueError: This is not the main thread.
        """
        if number not in self._actions:
            before = signal.getsignal(number)
            if before is None:  # the handler of a program that Python is embedded in, which only that can put back
                return
            signal.signal(number, before)  # or ValueError, before anything has changed
            self._before[number] = before
            self._actions[number] = []
            signal.signal(number, self._handler)
        self._actions[number].append(action)
        if not self._is_in_use:
            self._is_in_use = True
            _in_use.append(self)
            _alarm.set(self.loop)

    def remove(self, number: int, action: Action) -> None:
        """Have a signal no longer call this, if it does."""
        actions = self._actions.get(number, [])
        if action in actions:
            actions.remove(action)
            if not actions:
                del self._actions[number]
                self._put_back(number)
        if not self._actions and self._is_in_use:
            self._is_in_use = False
            _in_use.remove(self)
            _alarm.unset(self.loop)

    def clear_if_closed(self) -> None:
        """Put everything back if the loop was closed, and the apps can not."""
        if self.loop.is_closed():
            for number, actions in list(self._actions.items()):
                for action in list(actions):
                    self.remove(number, action)

    def _put_back(self, number: int) -> None:
        for other in _in_use:  # one may have found this handler before it
            if other._before.get(number) is self._handler:
                other._before[number] = self._before[number]
        if signal.getsignal(number) is self._handler:  # else the program has chosen another meanwhile
            with suppress(ValueError):  # not the main thread: then the next signal does it
                signal.signal(number, self._before[number])

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.clear_if_closed()
        if number in self._actions:
            self.loop.call_soon_threadsafe(self._received, number)
        else:
            signal.signal(number, self._before[number])
            signal.raise_signal(number)

    def _received(self, number: int) -> None:
        # The loop's own handler comes first: where it cancels an app, that must not find the app ending, and hurry it.
        self.loop.call_soon(self._call, number)

    def _call(self, number: int) -> None:
        for action in list(self._actions.get(number, ())):
            action()


class Alarm:
    """Wakes loops at signals, if nothing else does.

    uvloop's loops always wake. A loop of asyncio may be about to wait when a signal comes, and then waits. The
    descriptor is never closed: a loop that has found it may put it back at any time.
    """

    def __init__(self) -> None:
        self._heard = self._rung = NONE
        self._loops: list[asyncio.AbstractEventLoop] = []

    def set(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wake the running loop of the main thread, too."""
        if sys.platform == "win32":  # its loops are woken as uvloop's are
            return
        if self._rung == NONE:
            self._heard, self._rung = os.pipe()
            os.set_blocking(self._heard, False)
            os.set_blocking(self._rung, False)
        before = signal.set_wakeup_fd(self._rung, warn_on_full_buffer=False)
        if before not in (NONE, self._rung):
            with suppress(OSError, ValueError):  # it was closed
                signal.set_wakeup_fd(before, warn_on_full_buffer=False)
                os.write(before, self._drain())  # what came between the two
                return
        loop.add_reader(self._heard, self._drain)
        self._loops.append(loop)

    def unset(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wake a loop no longer. A descriptor that the program has set meanwhile remains."""
        if loop not in self._loops:
            return
        self._loops.remove(loop)
        if not loop.is_closed():
            loop.remove_reader(self._heard)
        if not self._loops:
            with suppress(ValueError):  # not the main thread
                current = signal.set_wakeup_fd(NONE)
                if current not in (NONE, self._rung):
                    signal.set_wakeup_fd(current, warn_on_full_buffer=False)

    def _drain(self) -> bytes:
        """Read the numbers of the signals that came."""
        try:
            return os.read(self._heard, 4096)
        except BlockingIOError:
            return b""


_alarm = Alarm()
