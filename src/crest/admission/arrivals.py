"""How often each client may connect: a rate and a burst for each key, in a table that does not grow without bound.

One number is kept of a client: the time at which it would be due next if it had kept to the rate ("the virtual
scheduling algorithm": ITU-T I.371). The client may be ahead of that time by the burst. Once that time is over the
client is as good as a new one, so nothing has to be kept of it.

Two generations of clients see to that without a timer. A client that connects is in the younger one. When that is as
old as a whole burst needs to be allowed again, it becomes the older one. The one that was the older is dropped as a
whole.

Several processes may share these times: the latest of them is the client's.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Final

from crest.io.loop.ledger import Ledger

GENERATION: Final = 1 << 15
"""Keys. At this size a generation ends early. So a client that connects from very many addresses takes no more memory:
the addresses are forgotten that have not connected for longest."""

NANOSECONDS: Final = 1_000_000_000
"""In a second. Processes tell each other whole numbers."""


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
        self._young: dict[str | int, float] = {}
        self._old: dict[str | int, float] = {}
        self._born = time()  # when the younger generation began
        self._ledger: Ledger | None = None
        self._name = ""

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def share(self, ledger: Ledger, name: str) -> None:
        """Count together with other processes, by a name that is the same in all of them. It is empty so far."""
        self._ledger, self._name = ledger, name

    def wait(self, key: str) -> float:
        """Count a client that connects, and return 0. If it is too early, return the seconds to wait instead."""
        now = self._time()
        client: str | int = key
        latest = now
        if self._ledger is not None:
            client = self._ledger.account(f"{self._name} {key}")
            latest = max(now, self._ledger.most_of_others(client) / NANOSECONDS)
        if now - self._born >= self._lifetime or len(self._young) >= GENERATION:
            self._age(now)
        planned = max(latest, self._young.get(client) or self._old.get(client, now))
        if planned - now > self._ahead:
            return planned - now - self._ahead
        self._old.pop(client, None)
        self._young[client] = planned + self._interval
        self._tell(client, planned + self._interval)
        return 0

    def _tell(self, client: str | int, planned: float) -> None:
        """Let other processes know when a client may come again; 0: that does not matter any more."""
        if self._ledger is not None and isinstance(client, int):
            self._ledger.write(client, int(planned * NANOSECONDS))

    def _age(self, now: float) -> None:
        """Make the younger generation the older one, or drop it if it has had its time as that already."""
        dropped = [self._old]
        if now - self._born < 2 * self._lifetime:
            self._old = self._young
        else:
            dropped.append(self._young)
            self._old = {}
        self._young = {}
        self._born = now
        if self._ledger is not None:
            for each in dropped:
                for client in each:
                    self._tell(client, 0)
