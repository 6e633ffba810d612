"""The members of the rooms in this worker: other workers are told of them, as long as one of these wants to know.

At first all of them are told, in parts, so that the loop serves connections between two of these; then each that enters
or leaves. Every text has its number: a worker that misses one asks for all again.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

from crest.cluster.bus import Bus, Served
from crest.io.out.address import UserRoom
from crest.io.out.hub import Hub

KEEP: Final = 30.0
"""Seconds between two texts that say that a worker wants to know still."""

LEASE: Final = 3 * KEEP
"""Seconds for which a worker tells of its members after such a text."""

PART: Final = 5000
"""Members that one text tells of, or few more."""

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
        self._parts: list[list[Any]] = []  # of these, still to be told
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

    def _tell_next(self) -> None:
        if self._loop.time() > self._until:
            self._until = 0.0
            self._served.watch_members(None)
            self._parts, self._changes = [], []
            return
        if self._all:
            self._all = False
            self._parts = self._divide()
            self._changes = []
            self._say(first=True)
        if self._parts:
            self._say(rooms=self._parts.pop())
            self._tell_soon()  # others are served meanwhile
        elif self._changes:
            changes, self._changes = self._changes, []
            self._say(changes=changes)

    def _divide(self) -> list[list[Any]]:
        """Divide all rooms and their members into parts; the one to be told last is empty."""
        parts: list[list[Any]] = [[]]
        size = PART
        rooms: list[str | UserRoom] = [*self._hub.room_names(), *map(UserRoom, self._hub.user_names())]
        for room in rooms:
            if size >= PART:
                parts.append([])
                size = 0
            numbers = [each._number for each in self._hub.members(room)]
            parts[-1].append([*room_of(room), numbers])
            size += len(numbers)
        return parts

    def _say(self, **what: Any) -> None:
        self._count += 1  # without memory for the text it is missing, and is asked for
        text = json.dumps({"process": self._bus.process, "count": self._count, **what}, separators=(",", ":"))
        self._bus.tell(self._name, text.encode())
