"""How many may be in at a time: all together, and of each address."""

from __future__ import annotations

from collections import Counter

from crest.proxies import Client, key_of


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
        most_per_ip: How many of one address, see `key_of`.
    """

    def __init__(self, most: int | None, most_per_ip: int | None) -> None:
        self._most = most
        self._most_per_ip = most_per_ip
        self._count = 0
        self._counts: Counter[str] = Counter()

    def __len__(self) -> int:
        return self._count

    def take(self, client: Client | None) -> Seat:
        """Count one more, until it leaves its seat.

        Args:
            client: None: it has no address, or none to count it by.

        Raises:
            Full: There are too many.
        """
        if self._most is not None and self._count >= self._most:
            raise Full(None)
        key = None
        if self._most_per_ip is not None and client is not None:
            key = key_of(client)
            if self._counts[key] >= self._most_per_ip:
                raise Full(key)
        seat, count = Seat(self, key), self._count + 1
        if key is not None:
            self._counts[key] += 1
        self._count = count  # last: without memory nothing may have changed
        return seat

    def leave(self, key: str | None) -> None:
        """Count one less. MemoryError: nothing has changed."""
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

    __slots__ = ("_key", "_seats")

    def __init__(self, seats: Seats, key: str | None) -> None:
        self._seats: Seats | None = seats
        self._key = key

    def leave(self) -> None:
        """Count it no longer. Leaving twice is a no-op."""
        if self._seats is not None:
            self._seats.leave(self._key)
            self._seats = None
