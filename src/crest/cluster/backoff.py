"""How long to wait before another attempt."""

from __future__ import annotations

from collections.abc import Callable
from random import uniform
from typing import Final

FIRST: Final = 0.1
LONGEST: Final = 30.0
"""Seconds."""


class Backoff:
    """Twice as long after each failure, with jitter, so that many do not keep step.

    Args:
        jitter: Chooses between two numbers.
    """

    def __init__(self, jitter: Callable[[float, float], float] = uniform) -> None:
        self._jitter = jitter
        self._wait = FIRST

    def fail(self) -> float:
        """Return the seconds to wait now."""
        wait = self._wait
        self._wait = min(2 * wait, LONGEST)
        return self._jitter(wait / 2, wait)

    def succeed(self) -> None:
        """Begin anew."""
        self._wait = FIRST
