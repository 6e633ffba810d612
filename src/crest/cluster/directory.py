"""The members of rooms over all workers: each worker tells the others of its own, as long as one of them wants to know.

A worker that is asked for members has the others tell it of theirs: first all, then each that enters or leaves. So it
answers from copies, and waits for others only if it has none of theirs yet. If something was lost on the way it asks
for all again. When it has not been asked for a while it wants to know no more.

What is said is JSON, to names that workers listen to (see `Bus.listen`):

| to | what |
|---|---|
| all workers, or one process | {"want": path}: begin to tell of the members of a server, all of them first |
| all workers | {"keep": path}: go on to do so |
| "members of " and the path | how many such texts there were before, and all members in parts, or changes |
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Final

from crest.cluster.bus import Bus, Served
from crest.cluster.copies import Copy
from crest.cluster.telling import KEEP, LEASE, Telling, room_of
from crest.io.out.address import UserRoom
from crest.io.out.hub import Hub
from crest.presence import Presence

PATIENCE: Final = 1.0
"""Seconds for which the first question waits for other workers to tell of their members."""

PAUSE: Final = 0.1
"""Seconds after which a worker asks again for what it has lost."""

ABSENCE: Final = 2.0
"""Seconds for which members are believed in whose worker has not come back after there was no exchange."""

LONG_ABSENCE: Final = 30.0
"""The same while no worker has come back: it may be the exchange that does not start."""

EVERYONE: Final = "workers"
"""The name that all of them listen to."""


class Others:
    """The members of one server in other workers.

    Args:
        bus: Of this worker.
        path: Of the server.
        loop: That serves it.
    """

    def __init__(self, bus: Bus, path: str, loop: asyncio.AbstractEventLoop) -> None:
        self._bus = bus
        self._path = path
        self._loop = loop
        self._asked = 0.0  # when members were asked for last; 0: none are
        self._unsure_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._asking: asyncio.TimerHandle | None = None
        self._forgetting: asyncio.TimerHandle | None = None
        self._late: set[int] = set()  # workers that were waited for in vain
        self._copies: dict[int, Copy] = {}
        self._changed = asyncio.Event()

    async def members(self, rooms: tuple[str | UserRoom, ...]) -> list[Presence]:
        """List the connections of other workers that are in any of these rooms, each once."""
        await self._ask()
        return [member for each in self._copies.values() for member in each.members(map(room_of, rooms))]

    async def count(self, rooms: tuple[str | UserRoom, ...]) -> int:
        """Count those."""
        await self._ask()
        return sum(len(each.numbers(map(room_of, rooms))) for each in self._copies.values())

    async def _ask(self) -> None:
        """Wait until other workers have told of their members, but not for long."""
        if not self._asked:
            self._bus.listen(f"members of {self._path}", self._hear)
            self._bus.tell(EVERYONE, self._text("want"))
            self._timer = self._loop.call_later(KEEP, self._go_on)
        self._asked = self._loop.time()
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while missing := self._missing():
                    self._changed.clear()
                    await self._changed.wait()
        self._late |= missing

    def began(self, number: int, process: str) -> None:
        """Note that there is one more worker."""
        if self._asked and self._asking is None:
            self._bus.tell(process, self._text("want"))

    def left(self, number: int) -> None:
        """Note that a worker is gone, and all of its connections."""
        self._copies.pop(number, None)
        self._late.discard(number)
        self._changed.set()

    def unsure(self) -> None:
        """Ask again, soon: something may be lost."""
        if self._asked and self._asking is None:
            self._unsure_at = self._loop.time()
            self._asking = self._loop.call_later(PAUSE, self._ask_again)

    def stop(self) -> None:
        """Want to know no more."""
        for timer in (self._timer, self._asking, self._forgetting):
            if timer is not None:
                timer.cancel()
        self._timer = self._asking = self._forgetting = None
        self._asked = 0.0
        self._copies.clear()
        self._late.clear()
        self._bus.unlisten(f"members of {self._path}")

    def _missing(self) -> set[int]:
        """Return the workers that have not told of all their members, and are worth waiting for."""
        whole = {number for number, copy in self._copies.items() if copy.whole}
        return set(self._bus.numbers.values()) - whole - self._late

    def _hear(self, number: int, data: bytes) -> None:
        copy = self._copies.setdefault(number, Copy())
        if not copy.hear(json.loads(data)):
            self.unsure()
        if copy.whole:
            self._late.discard(number)
            self._changed.set()

    def _ask_again(self) -> None:
        self._asking = None
        self._bus.tell(EVERYONE, self._text("want"))
        if self._forgetting is None:
            self._forgetting = self._loop.call_later(ABSENCE, self._forget_absent)

    def _forget_absent(self) -> None:
        self._forgetting = None
        if not self._bus.numbers and self._loop.time() < self._unsure_at + LONG_ABSENCE:
            self._forgetting = self._loop.call_later(ABSENCE, self._forget_absent)
            return
        for number in self._copies.keys() - set(self._bus.numbers.values()):
            self.left(number)  # while there was no exchange

    def _go_on(self) -> None:
        if self._loop.time() > self._asked + LEASE:
            self.stop()
        else:
            self._bus.tell(EVERYONE, self._text("keep"))
            self._timer = self._loop.call_later(KEEP, self._go_on)

    def _text(self, what: str) -> bytes:
        return json.dumps({what: self._path}).encode()


class Directory:
    """The members of all servers of this worker, here and elsewhere.

    Args:
        bus: Of this worker.
        loop: That serves them.
    """

    def __init__(self, bus: Bus, loop: asyncio.AbstractEventLoop) -> None:
        self._bus = bus
        self._loop = loop
        self._here: dict[str, Telling] = {}
        self._elsewhere: dict[str, Others] = {}
        bus.peers = self
        for name in (EVERYONE, bus.process):
            bus.listen(name, self._hear)

    def attach(self, path: str, hub: Hub, served: Served) -> Others:
        """Tell others of a server's members, as long as they want to know. Returns the members elsewhere."""
        self._here[path] = Telling(self._bus, path, hub, served, self._loop)
        self._elsewhere[path] = Others(self._bus, path, self._loop)
        return self._elsewhere[path]

    def close(self) -> None:
        for each in self._elsewhere.values():
            each.stop()

    def began(self, number: int, process: str) -> None:
        for each in self._elsewhere.values():
            each.began(number, process)

    def left(self, number: int) -> None:
        for each in self._elsewhere.values():
            each.left(number)

    def unsure(self) -> None:
        for each in self._elsewhere.values():
            each.unsure()

    def _hear(self, number: int, data: bytes) -> None:
        for what, path in json.loads(data).items():
            telling = self._here.get(path)
            if telling is not None and what == "want":
                telling.want()
            elif telling is not None and what == "keep":
                telling.keep()
