"""What other workers have told of the members of their rooms: a copy of each one's."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from crest.cluster.telling import Room
from crest.connection import id_of
from crest.presence import Presence


class Members:
    """The members of the rooms of one server."""

    def __init__(self) -> None:
        self.rooms: defaultdict[Room, set[int]] = defaultdict(set)
        self.users: dict[int, str] = {}

    def change(self, entered: bool, room: Room, number: int) -> None:
        name, of_user = room
        if entered:
            self.rooms[room].add(number)
            if of_user:
                self.users[number] = name
            return
        self.rooms[room].discard(number)
        if not self.rooms[room]:
            del self.rooms[room]
        if of_user and self.users.get(number) == name:
            del self.users[number]


class Copy:
    """The members of one server in another worker.

    Attributes:
        whole: True if all that it has told has come.
        process: The worker's; empty before it has told of any.
    """

    def __init__(self) -> None:
        self.whole = False
        self.process = ""
        self._count = -1
        self._members = Members()
        self._coming: Members | None = None

    def hear(self, text: dict[str, Any]) -> bool:
        """Take in what the worker tells. False if something before it is missing."""
        follows = text["count"] == self._count + 1 and text["process"] == self.process
        self._count, self.process = text["count"], text["process"]
        if "first" in text:
            self._coming = Members()
            return True
        if not follows or not (self.whole or self._coming is not None):
            self.whole, self._coming = False, None
            return False
        for entered, name, of_user, number in text.get("changes", ()):
            self._members.change(entered, (name, of_user), number)
        if self._coming is not None and "rooms" in text:
            for name, of_user, numbers in text["rooms"]:
                for number in numbers:
                    self._coming.change(True, (name, of_user), number)
            if not text["rooms"]:
                self._members, self._coming = self._coming, None
                self.whole = True
        return True

    def numbers(self, rooms: Iterable[Room]) -> set[int]:
        """The connections that are in any of these rooms."""
        found: set[int] = set()
        return found.union(*(self._members.rooms.get(room, ()) for room in rooms))

    def members(self, rooms: Iterable[Room]) -> list[Presence]:
        users = self._members.users
        return [Presence(id_of(self.process, each), users.get(each)) for each in self.numbers(rooms)]
