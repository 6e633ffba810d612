"""crest.cluster.telling: the members of the rooms here, of whom others are told."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from support.bus import Peer, Worker, worker
from support.link import Link

from crest.cluster import telling
from crest.cluster.record import RecordKind
from crest.cluster.telling import KEEP, LEASE, Telling


class Scene:
    """One worker, the exchange that the test plays, and what it is told of the members of the server at "/"."""

    def __init__(self, made: Worker) -> None:
        self.stage = made.stage
        self.peer: Peer = made.connect_peer()
        self.telling = Telling(made.bus, "/", made.stage.hub, made.served, made.stage.loop)
        self.heard()

    def heard(self) -> list[dict[str, Any]]:
        """The texts of one more turn."""
        self.stage.end_turn()
        found = []
        for record in self.peer.records():
            if record.kind == RecordKind.OPAQUE:
                assert record.to == ("members of /",)
                found.append(json.loads(record.payload))
        return found

    def all(self) -> dict[tuple[str, bool], list[int]]:
        """All members, which must come now."""
        first, *parts = [text for _ in range(20) for text in self.heard()]
        assert first["first"]
        assert [bool(part["rooms"]) for part in parts] == [True] * (len(parts) - 1) + [False]
        return {(name, of_user): sorted(numbers) for part in parts for name, of_user, numbers in part["rooms"]}

    def changes(self) -> list[list[Any]]:
        """The changes of this turn."""
        texts = [text for _ in range(2) for text in self.heard()]
        return [change for text in texts for change in text["changes"]]

    def member(self, *rooms: str) -> Link:
        link = self.stage.link()
        for room in rooms:
            link.connection.join(room)
        return link


@pytest.fixture
def one() -> Iterator[Scene]:
    with worker() as made:
        yield Scene(made)


def test_nothing_is_told_that_nobody_wants_to_know(one: Scene) -> None:
    one.member("lobby").connection.leave("lobby")
    assert one.heard() == one.heard() == []


def test_all_and_then_changes(one: Scene) -> None:
    link, other = one.member("lobby", "attic"), one.member("lobby")
    number, second = link.connection._number, other.connection._number
    one.telling.want()
    assert one.all() == {("lobby", False): [number, second], ("attic", False): [number]}
    other.connection.join("cellar")
    other.connection.leave("lobby")
    assert one.changes() == [[True, "cellar", False, second], [False, "lobby", False, second]]
    other.transport.abort()
    one.stage.end_turn(2)
    assert one.changes() == [[False, "cellar", False, second]]
    one.telling.want()
    assert one.all() == {("lobby", False): [number], ("attic", False): [number]}
    assert one.changes() == []


def test_users_rooms(one: Scene) -> None:
    one.telling.want()
    assert one.all() == {}
    link = one.member()
    link.connection._be_user("alice")
    assert one.changes() == [[True, "alice", True, link.connection._number]]


def test_texts_are_numbered(one: Scene) -> None:
    one.telling.want()
    texts = [text for _ in range(5) for text in one.heard()]
    one.member("lobby")
    texts += one.heard() + one.heard()
    assert [text["count"] for text in texts] == list(range(1, len(texts) + 1)) and len(texts) == 3
    assert len({text["process"] for text in texts}) == 1


def test_many_are_told_in_parts_and_what_changes_meanwhile_after_them(
    one: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telling, "PART", 2)
    links = [one.member(f"room {number}") for number in range(7)]
    one.telling.want()
    texts = one.heard()
    while not any(text.get("rooms") for text in texts):
        texts += one.heard()
    [first, *_] = [name for text in texts for name, *_ in text.get("rooms", ())]
    told, untold = int(first.removeprefix("room ")), 0
    assert told != untold
    for number in (told, untold):
        links[number].connection.leave(f"room {number}")
    while not any("changes" in text for text in texts):
        texts += one.heard()
    sizes = [len(text["rooms"]) for text in texts if "rooms" in text]
    assert sum(sizes) == 6 and max(sizes) == 2 and sizes[-1] == 0
    assert texts[-1]["changes"] == [
        [False, f"room {number}", False, links[number].connection._number] for number in (told, untold)
    ]


def test_it_ends_unless_it_is_kept_on(one: Scene) -> None:
    link = one.member("lobby")
    one.telling.want()
    one.all()
    for _ in range(5):
        one.stage.loop.advance(KEEP)
        one.telling.keep()
        link.connection.join("attic")
        link.connection.leave("attic")
        assert len(one.changes()) == 2
    one.stage.loop.advance(LEASE + 1)
    link.connection.join("attic")
    assert one.heard() == one.heard() == []
    link.connection.leave("attic")
    assert one.heard() == []
    one.telling.keep()
    assert one.all() == {("lobby", False): [link.connection._number]}, "somebody thinks that it goes on"


def test_what_could_not_be_told_is_told_with_all(one: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    link = one.member("lobby")
    one.telling.want()
    one.all()

    def fail(*change: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(one.telling, "_change", fail)
    link.connection.join("attic")
    monkeypatch.undo()
    one.telling.keep()
    assert one.all() == {("lobby", False): [link.connection._number], ("attic", False): [link.connection._number]}


def test_without_memory_all_is_told_a_little_later(one: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    link = one.member("lobby")

    def fail(**what: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(one.telling, "_say", fail)
    one.telling.want()
    one.heard()
    monkeypatch.undo()
    one.stage.loop.advance(telling.AGAIN)
    assert one.all() == {("lobby", False): [link.connection._number]}


def test_without_memory_for_a_change_all_is_told(one: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    link = one.member("lobby")
    one.telling.want()
    one.all()

    def fail() -> None:
        raise MemoryError

    monkeypatch.setattr(one.telling, "_tell_soon", fail)
    link.connection.join("attic")
    monkeypatch.undo()
    link.connection.join("cellar")
    assert set(one.all()) == {("lobby", False), ("attic", False), ("cellar", False)}
