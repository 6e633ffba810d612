"""How often each client may connect: a rate and a burst for each key, in a table that does not grow without bound.

What is kept of a client is one number, the time at which it would have connected last if it had kept to the rate ("the
virtual scheduling algorithm": ITU-T I.371): it may be ahead of that by the burst. Once that time is over the client is
as good as a new one, so nothing has to be kept of it. Two generations of clients see to that without a timer: whoever
connects is in the younger one; and when it is as old as a whole burst needs to be allowed again, it becomes the older
one, and the one that was is dropped as a whole.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Final

GENERATION: Final = 1 << 15
"""Keys. At this size a generation ends early: whoever connects from very many addresses has those forgotten that have
not connected for longest, and no more memory."""


class Arrivals:
    """Who has connected, and when it may again.

    Args:
        rate: Times a second, and how often at once.
        time: Seconds; never goes back.
    """

    def __init__(self, rate: tuple[float, float], time: Callable[[], float] = monotonic) -> None:
        self._interval = 1 / rate[0]
        self._ahead = (rate[1] - 1) * self._interval
        self._lifetime = rate[1] * self._interval
        self._time = time
        self._young: dict[str, float] = {}
        self._old: dict[str, float] = {}
        self._born = time()  # when the younger generation began

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def wait(self, key: str) -> float:
        """Somebody connects. Returns 0 if it may, or else the seconds after which it might; then this did not count."""
        now = self._time()
        if now - self._born >= self._lifetime or len(self._young) >= GENERATION:
            self._age(now)
        planned = max(now, self._young.get(key) or self._old.get(key, now))
        if planned - now > self._ahead:
            return planned - now - self._ahead
        self._old.pop(key, None)
        self._young[key] = planned + self._interval
        return 0

    def _age(self, now: float) -> None:
        """The younger generation is the older one from now on, unless it has had its time as that already."""
        self._old = self._young if now - self._born < 2 * self._lifetime else {}
        self._young = {}
        self._born = now
