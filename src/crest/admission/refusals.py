"""Refused requests and connections in the log, at a bounded rate: a refused client can ask again, and must not fill the
disk by that."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter

from crest.exceptions import HandshakeError
from crest.log import logger

PAUSE = 1.0
"""Seconds after a line about one kind of refusal in which others of that kind are only counted."""


class RefusalLog:
    """Logs the first refusal of each kind, and then, once a second, how many there were since.

    Args:
        loop: The loop whose timers are used.
        refused: Counts refused connections, by kind.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, refused: Counter[str]) -> None:
        self._loop = loop
        self._refused = refused
        self._suppressed: dict[str, int] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def add(self, kind: str, client: object, error: HandshakeError, path: str | None = None) -> None:
        """Log a refused request. An error that has a cause is the server's own, and logged with that traceback."""
        if self._is_first(kind):
            level = logging.INFO if error.__cause__ is None else logging.ERROR
            text = "Refused a request of %s: %d, %s"
            fields = {"client": client, "path": path}
            logger.log(level, text, client, error.status, error.reason, exc_info=error.__cause__, extra=fields)

    def add_connection(self, kind: str, client: object, reason: str) -> None:
        """Log and count a connection that was refused before there was a request, or cut off within a response."""
        self._refused[kind] += 1
        if self._is_first(kind):
            logger.info("Refused a connection of %s: %s", client, reason, extra={"client": client})

    def close(self) -> None:
        """Log what was only counted."""
        for timer in self._timers.values():
            timer.cancel()
        for kind in list(self._suppressed):
            self._tell(kind)
        self._timers.clear()

    def _is_first(self, kind: str) -> bool:
        """True if this one is to be logged. The others are counted."""
        if kind in self._suppressed:
            self._suppressed[kind] += 1
            return False
        self._pause(kind)
        return True

    def _pause(self, kind: str) -> None:
        self._suppressed[kind] = 0
        self._timers[kind] = self._loop.call_later(PAUSE, self._go_on, kind)

    def _go_on(self, kind: str) -> None:
        del self._timers[kind]
        if self._tell(kind):
            self._pause(kind)

    def _tell(self, kind: str) -> int:
        count = self._suppressed.pop(kind)
        if count:
            logger.info("Refused %d more like the last one (%s)", count, kind)
        return count
