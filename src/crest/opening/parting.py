"""The words for clients that are sent away because the server shuts down.

Each is told when to come back, so that they do not all come to the next server at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import ceil
from random import random
from typing import Final

from crest.admission.decision import Refusal
from crest.wire.codes import CloseCode

WHY: Final = "the server is shutting down"

Random = Callable[[], float]
"""Gives numbers from 0 to 1, as `random.random` does."""


def absence(seconds: float, retry_after: float, random: Random) -> float:
    """Find for how many seconds a client shall stay away, when closing all clients takes `seconds`.

    A client that is closed first is not back before the last is closed; and clients come back over a longer time than
    that in which they were sent away.
    """
    return seconds + retry_after * (1 + random())


class Parting:
    """The words of one shutdown.

    Args:
        loop: The loop by whose clock it takes place.
        retry_after: Seconds after it until clients should come back, up to twice that; None: they are told nothing.
        restart_code: Close code for clients that should come back.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, retry_after: float | None, restart_code: int) -> None:
        self._loop = loop
        self._retry_after = retry_after
        self._restart_code = restart_code
        self._closing_time = 0.0
        self._closed_at = 0.0  # when all are, by the loop's clock

    def begin(self, closing_time: float) -> None:
        """Count the time from now: closing all connections takes so many seconds."""
        self._closing_time = closing_time
        self._closed_at = self._loop.time() + closing_time

    def farewell(self) -> tuple[int, str]:
        """Return code and reason for the close frame of one client."""
        if self._retry_after is None:
            return CloseCode.GOING_AWAY, WHY
        seconds = absence(self._closing_time, self._retry_after, random)
        return self._restart_code, f"retry-after={seconds:.2f}"

    def refusal(self) -> Refusal:
        """Return the refusal of a request that comes now."""
        headers: tuple[tuple[str, str], ...] = ()
        if self._retry_after is not None:
            left = max(0.0, self._closed_at - self._loop.time())
            headers = (("Retry-After", str(ceil(absence(left, self._retry_after, random)))),)
        return Refusal("shutdown", 503, WHY, headers)
