"""Limits on the connections that are in at a time: all together, and of each address.

A connection sits. When its client has gone, and its handlers run on, it stands: then it takes no seat, as the client
may come back at once. But all that stand and sit are never more than twice the seats. Otherwise a client that comes and
goes could start any number of handlers.

Several processes may count together. Each then writes what it has where the others find it.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from crest.admission.proxies import Client, key_of
from crest.io.loop.ledger import Ledger

STANDING: Final = 32
SITTING: Final = (1 << STANDING) - 1
"""A process tells the others one number for an address: connections that sit in its lower half, and those that stand in
its upper half."""


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
        self._ledger: Ledger | None = None
        self._name = ""
        self._all = 0
        self.sitting, self.standing = Tally(), Tally()

    def __len__(self) -> int:
        return len(self.sitting) + len(self.standing)

    def share(self, ledger: Ledger, name: str) -> None:
        """Count together with other processes, by a name that is the same in all of them. It is empty so far."""
        if self._most is not None or self._most_per_ip is not None:
            self._ledger, self._name = ledger, name
            self._all = ledger.account(name)

    def take(self, client: Client | None) -> Seat:
        """Count one more, until it leaves its seat.

        Args:
            client: None: it has no address, or none to count it by.

        Raises:
            Full: There are too many.
        """
        self._check(None, self._all, self._most)
        key, account = None, 0
        if self._most_per_ip is not None and client is not None:
            key = key_of(client)
            if self._ledger is not None:
                account = self._ledger.account(f"{self._name} {key}")
            self._check(key, account, self._most_per_ip)
        seat = Seat(self, key, account)
        self.sitting.add(key)
        self.tell(key, account)
        return seat

    def _check(self, key: str | None, account: int, most: int | None) -> None:
        if most is not None:
            sitting, standing = self.sitting.of(key), self.standing.of(key)
            if self._ledger is not None:
                others = self._ledger.sum_of_others(account)
                sitting += others & SITTING
                standing += others >> STANDING
            if sitting >= most or sitting + standing >= 2 * most:
                raise Full(key)

    def tell(self, key: str | None, account: int) -> None:
        """Let other processes know how many there are now of an address, and in all."""
        if self._ledger is None:
            return
        try:
            self._ledger.write(self._all, self._value(None))
            if key is not None:
                self._ledger.write(account, self._value(key))
        except MemoryError:
            pass  # the next one that comes or goes lets them know

    def _value(self, key: str | None) -> int:
        return self.sitting.of(key) | self.standing.of(key) << STANDING


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
    """One connection that is counted.

    Args:
        seats: Where.
        key, account: Of its address, see `Seats.take`.
    """

    __slots__ = ("_account", "_key", "_seats", "_tally")

    def __init__(self, seats: Seats, key: str | None, account: int) -> None:
        self._seats = seats
        self._tally: Tally | None = seats.sitting
        self._key = key
        self._account = account

    def stand(self) -> None:
        """Count it as standing: its client has gone, and its handlers run on."""
        if self._tally is not None:
            self._tally.remove(self._key)
            self._tally = None
            self._seats.standing.add(self._key)
            self._tally = self._seats.standing
            self._seats.tell(self._key, self._account)

    def leave(self) -> None:
        """Count it no longer. Leaving twice is a no-op."""
        if self._tally is not None:
            self._tally.remove(self._key)
            self._tally = None
            self._seats.tell(self._key, self._account)
