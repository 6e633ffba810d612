"""How often each client may connect: a rate and a burst for each key, in a table that does not grow without bound.

One number is kept of a client: the time at which it would be due next if it had kept to the rate ("the virtual
scheduling algorithm": ITU-T I.371). The client may be ahead of that time by the burst. Once that time is over the
client is as good as a new one, so nothing has to be kept of it.

Two generations of clients see to that without a timer. A client that connects is in the younger one. When that is as
old as a whole burst needs to be allowed again, it becomes the older one. The one that was the older is dropped as a
whole.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Final

GENERATION: Final = 1 << 15
"""Keys. At this size a generation ends early. So a client that connects from very many addresses takes no more memory:
the addresses are forgotten that have not connected for longest."""


class Arrivals:
    """The clients that have connected, and when each may again.

    Args:
        rate: Times a second, and how often at once.
        time: Tells the time in seconds, which never goes back.
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
        """Count a client that connects, and return 0. If it is too early, return the seconds to wait instead."""
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
        """Make the younger generation the older one, or drop it if it has had its time as that already."""
        self._old = self._young if now - self._born < 2 * self._lifetime else {}
        self._young = {}
        self._born = now
