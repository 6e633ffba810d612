"""What other workers have told of the members of their rooms: a copy of each one's."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from crest.cluster.telling import Room
from crest.connection import id_of
from crest.presence import Presence


class Copy:
    """The members of one server in another worker.

    Attributes:
        whole: True if all that it has told has come.
        process: The worker's; None before it has told of any.
    """

    def __init__(self) -> None:
        self.whole = False
        self.process = ""
        self._count = -1
        self._rooms: defaultdict[Room, set[int]] = defaultdict(set)
        self._users: dict[int, str] = {}
        self._coming: list[Any] | None = None

    def hear(self, text: dict[str, Any]) -> bool:
        """Take in what the worker tells. False if something before it is missing."""
        follows = text["count"] == self._count + 1 and text["process"] == self.process
        self._count, self.process = text["count"], text["process"]
        if "first" in text:
            self._coming = []
            return True
        if not follows or not (self.whole or self._coming is not None):
            self.whole, self._coming = False, None
            return False
        for entered, name, of_user, number in text.get("changes", ()):
            self._change(entered, (name, of_user), number)
        if self._coming is not None and "rooms" in text:
            self._coming += text["rooms"]
            if not text["rooms"]:
                self._replace(self._coming)
                self._coming = None
                self.whole = True
        return True

    def members(self, rooms: Iterable[Room]) -> list[Presence]:
        numbers: set[int] = set()
        for room in rooms:
            numbers |= self._rooms.get(room, set())
        return [Presence(id_of(self.process, each), self._users.get(each)) for each in numbers]

    def _replace(self, rooms: list[Any]) -> None:
        self._rooms.clear()
        self._users.clear()
        for name, of_user, numbers in rooms:
            for number in numbers:
                self._change(True, (name, of_user), number)

    def _change(self, entered: bool, room: Room, number: int) -> None:
        name, of_user = room
        if entered:
            self._rooms[room].add(number)
            if of_user:
                self._users[number] = name
            return
        self._rooms[room].discard(number)
        if not self._rooms[room]:
            del self._rooms[room]
        if of_user and self._users.get(number) == name:
            del self._users[number]
