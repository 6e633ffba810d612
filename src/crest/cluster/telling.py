"""The members of the rooms in this worker: other workers are told of them, as long as one of these wants to know.

At first all of them are told, in parts, so that the loop serves connections between two of these; then each that has
entered or left since. Rooms are looked at as they are told: a change that came before is told once more, which changes
nothing. Every text has its number: a worker that misses one asks for all again.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Any, Final

from crest.cluster.bus import Bus, Served
from crest.io.out.address import UserRoom
from crest.io.out.hub import Hub

KEEP: Final = 30.0
"""Seconds between two texts that say that a worker wants to know still."""

LEASE: Final = 3 * KEEP
"""Seconds for which a worker tells of its members after such a text."""

PART: Final = 5000
"""Members that one text tells of; more if one room has more."""

AGAIN: Final = 0.1
"""Seconds after which is told what there was no memory for."""

Room = tuple[str, bool]
"""A name, and True if it is a user's."""


def room_of(address: str | UserRoom) -> Room:
    return (address.name, True) if isinstance(address, UserRoom) else (address, False)


class Telling:
    """Tells other workers of the members of one server in this one.

    Args:
        bus: Of this worker.
        path: Of the server.
        hub: The server's.
        served: What the bus knows it by.
        loop: That serves it.
    """

    def __init__(self, bus: Bus, path: str, hub: Hub, served: Served, loop: asyncio.AbstractEventLoop) -> None:
        self._bus = bus
        self._name = f"members of {path}"
        self._hub = hub
        self._served = served
        self._loop = loop
        self._until = 0.0
        self._all = False  # are to be told of
        self._rest: list[str | UserRoom] | None = None  # rooms that are still to be told of; None: all were
        self._changes: list[tuple[bool, str, bool, int]] = []  # since then
        self._due = False
        self._count = 0

    def want(self) -> None:
        """Tell of all members, and then of changes."""
        self._until = self._loop.time() + LEASE
        self._all = True
        self._served.watch_members(self)
        self._tell_soon()

    def keep(self) -> None:
        """Go on."""
        if self._until:
            self._until = self._loop.time() + LEASE
            self._tell_soon()
        else:
            self.want()

    def entered(self, name: str, of_user: bool, number: int) -> None:
        self._change(True, name, of_user, number)

    def exited(self, name: str, of_user: bool, number: int) -> None:
        self._change(False, name, of_user, number)

    def _change(self, *change: Any) -> None:
        try:
            self._changes.append(change)
            self._tell_soon()
        except MemoryError:
            self._all = True  # whatever changes next has all of them told

    def _tell_soon(self) -> None:
        if not self._due:
            self._loop.call_soon(self._tell)
            self._due = True

    def _tell(self) -> None:
        self._due = False
        try:
            self._tell_next()
        except MemoryError:
            self._all = True
            with suppress(MemoryError):
                self._loop.call_later(AGAIN, self._tell_soon)

    def _tell_next(self) -> None:
        if self._loop.time() > self._until:
            self._until = 0.0
            self._served.watch_members(None)
            self._rest, self._changes = None, []
            return
        if self._served.take_missed() or self._all:
            self._all = False
            self._rest = [*map(UserRoom, self._hub.user_names()), *self._hub.room_names()]
            self._changes = []
            self._say(first=True)
        if self._rest is not None:
            part = self._part(self._rest)
            self._say(rooms=part)
            if not part:
                self._rest = None
            self._tell_soon()  # others are served meanwhile
        elif self._changes:
            changes, self._changes = self._changes, []
            self._say(changes=changes)

    def _part(self, rest: list[str | UserRoom]) -> list[Any]:
        """Take rooms from the rest, and list their members; empty: that was all."""
        part: list[Any] = []
        size = 0
        while rest and size < PART:
            room = rest.pop()
            numbers = [each._number for each in self._hub.members(room)]
            if numbers:
                part.append([*room_of(room), numbers])
                size += len(numbers)
        return part

    def _say(self, **what: Any) -> None:
        self._count += 1  # without memory for the text it is missing, and is asked for
        text = json.dumps({"process": self._bus.process, "count": self._count, **what}, separators=(",", ":"))
        self._bus.tell(self._name, text.encode())
