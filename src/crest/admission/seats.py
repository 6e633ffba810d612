"""Limits on the connections that are in at a time: all together, and of each address.

A connection sits. When its client has gone, and its handlers run on, it stands: then it takes no seat, as the client
may come back at once. But all that stand and sit are never more than twice the seats. Otherwise a client that comes and
goes could start any number of handlers.
"""

from __future__ import annotations

from collections import Counter

from crest.admission.proxies import Client, key_of


class Full(Exception):
    """There are too many.

    Args:
        key: The address or network that has too many; None if all together are.
    """

    def __init__(self, key: str | None) -> None:
        super().__init__("there are too many" if key is None else f"there are too many from {key}")
        self.key = key


class Seats:
    """Counts connections, or TLS handshakes, while they are there.

    Args:
        most: How many there may be; None for any number.
        most_per_ip: How many there may be of one address, see `key_of`.
    """

    def __init__(self, most: int | None, most_per_ip: int | None) -> None:
        self._most = most
        self._most_per_ip = most_per_ip
        self._sitting, self._standing = Tally(), Tally()

    def __len__(self) -> int:
        return len(self._sitting) + len(self._standing)

    def take(self, client: Client | None) -> Seat:
        """Count one more, until it leaves its seat.

        Args:
            client: None: it has no address, or none to count it by.

        Raises:
            Full: There are too many.
        """
        self._check(None, self._most)
        key = None
        if self._most_per_ip is not None and client is not None:
            key = key_of(client)
            self._check(key, self._most_per_ip)
        seat = Seat(self._sitting, self._standing, key)
        self._sitting.add(key)
        return seat

    def _check(self, key: str | None, most: int | None) -> None:
        if most is not None:
            sitting = self._sitting.of(key)
            if sitting >= most or sitting + self._standing.of(key) >= 2 * most:
                raise Full(key)


class Tally:
    """Counts connections, in all and of each address. After a MemoryError nothing has changed."""

    def __init__(self) -> None:
        self._count = 0
        self._counts: Counter[str] = Counter()

    def __len__(self) -> int:
        return self._count

    def of(self, key: str | None) -> int:
        """Return how many there are of an address; None: in all."""
        return self._count if key is None else self._counts[key]

    def add(self, key: str | None) -> None:
        count = self._count + 1
        if key is not None:
            self._counts[key] += 1
        self._count = count

    def remove(self, key: str | None) -> None:
        count = self._count - 1
        if key is not None:
            left = self._counts[key] - 1
            if left:
                self._counts[key] = left
            else:
                del self._counts[key]
        self._count = count


class Seat:
    """One connection that is counted."""

    __slots__ = ("_key", "_standing", "_tally")

    def __init__(self, sitting: Tally, standing: Tally, key: str | None) -> None:
        self._tally: Tally | None = sitting
        self._standing = standing
        self._key = key

    def stand(self) -> None:
        """Count it as standing: its client has gone, and its handlers run on."""
        if self._tally is not None:
            self.leave()
            self._standing.add(self._key)
            self._tally = self._standing

    def leave(self) -> None:
        """Count it no longer. Leaving twice is a no-op."""
        if self._tally is not None:
            self._tally.remove(self._key)
            self._tally = None
