"""crest.io.out.interest: which rooms have members, told to whatever has an interest."""

import pytest
from support.link import Scene, scene

from crest.io.out.interest import Interest
from crest.wire.extensions import Agreement, Deflate

AGREED = Agreement(False, False, 15, 15, "permessage-deflate")


class Noted(Interest):
    """Notes which rooms have members."""

    def __init__(self) -> None:
        self.notes: list[tuple[str, str, bool]] = []

    def began(self, name: str, of_user: bool) -> None:
        self.notes.append(("began", name, of_user))

    def ended(self, name: str, of_user: bool) -> None:
        self.notes.append(("ended", name, of_user))

    def taken(self) -> list[tuple[str, str, bool]]:
        notes, self.notes = self.notes, []
        return notes


def watched(stage: Scene) -> Noted:
    noted = Noted()
    stage.hub.watch_rooms(noted)
    return noted


def test_rooms_that_begin_and_end_are_told_once_for_both_fan_outs() -> None:
    with scene(deflate=Deflate()) as stage:
        plain, second = stage.link(), stage.link()
        compressing = stage.link(agreed=AGREED)
        plain.connection.join("before")
        noted = watched(stage)
        assert noted.taken() == [("began", "before", False)]
        for link in (plain, compressing, second):
            link.connection.join("a")
        assert noted.taken() == [("began", "a", False)]
        plain.connection.leave("a")
        second.connection.leave("a")
        assert noted.taken() == []
        compressing.connection.leave("a")
        assert noted.taken() == [("ended", "a", False)]
        compressing.connection.join("a")
        compressing.transport.end()
        stage.end_turn(3)
        assert noted.taken() == [("began", "a", False), ("ended", "a", False)]
        stage.hub.watch_rooms(None)
        plain.connection.join("unseen")
        assert noted.taken() == []


def test_members_are_told_of_to_whom_wants_to_know() -> None:
    class Each(Noted):
        def entered(self, name: str, of_user: bool, number: int) -> None:
            self.notes.append((f"entered {number}", name, of_user))

        def exited(self, name: str, of_user: bool, number: int) -> None:
            self.notes.append((f"exited {number}", name, of_user))

    with scene(deflate=Deflate()) as stage:
        plain, compressing = stage.link(), stage.link(agreed=AGREED)
        one, other = plain.connection._number, compressing.connection._number
        noted = Each()
        stage.hub.watch_rooms(noted)
        plain.connection.join("a")
        assert noted.taken() == [("began", "a", False)], "it has not asked for members"
        noted.members = True
        compressing.connection.join("a")
        plain.connection.join("a")
        plain.connection._be_user("ann")
        assert noted.taken() == [
            (f"entered {other}", "a", False),
            ("began", "ann", True),
            (f"entered {one}", "ann", True),
        ]
        plain.connection.leave("a")
        plain.connection.leave("a")
        assert noted.taken() == [(f"exited {one}", "a", False)]
        for link in (plain, compressing):
            link.transport.end()
        stage.end_turn(3)
        exited = [note for note in noted.taken() if note[0].startswith("exited")]
        assert sorted(exited) == sorted([(f"exited {one}", "ann", True), (f"exited {other}", "a", False)])


def test_an_interest_that_refuses_keeps_the_member_out(stage: Scene) -> None:
    class Refusing(Interest):
        def began(self, name: str, of_user: bool) -> None:
            raise MemoryError

    link = stage.link()
    stage.hub.watch_rooms(Refusing())
    with pytest.raises(MemoryError):
        link.connection.join("a")
    assert link.connection.rooms == set()
    assert stage.hub.room_size("a") == 0
    stage.hub.watch_rooms(None)
    link.connection.join("a")
    assert stage.hub.room_size("a") == 1


def test_users_are_told_apart_from_rooms_of_the_same_name(stage: Scene) -> None:
    first, second = stage.link(), stage.link()
    first.connection._be_user("ann")
    noted = watched(stage)
    second.connection._be_user("ann")
    second.connection.join("ann")
    assert noted.taken() == [("began", "ann", True), ("began", "ann", False)]
    first.connection._be_user(None)
    second.connection._be_user("bob")
    assert sorted(noted.taken()) == [("began", "bob", True), ("ended", "ann", True)]
    assert stage.hub.user_names() == ["bob"]


def test_what_begins_to_be_served_is_told_too(stage: Scene) -> None:
    """The fan-outs of a hub are made when a loop begins to serve it."""
    noted = watched(stage)
    stage.hub.open(stage.turn)
    stage.link().connection.join("a")
    assert noted.taken() == [("began", "a", False)]


def test_what_fails_to_be_told_leaves_nothing_half_done() -> None:
    class Failing(Noted):
        def entered(self, name: str, of_user: bool, number: int) -> None:
            raise ZeroDivisionError

        def exited(self, name: str, of_user: bool, number: int) -> None:
            raise ZeroDivisionError

    with scene() as stage:
        one, other = stage.link(), stage.link()
        failing = Failing()
        stage.hub.watch_rooms(failing)
        failing.members = True
        for name in ("a", "b", "c"):
            assert one.connection.join(name) and other.connection.join(name)
        assert failing.missed
        failing.missed = False
        one.transport.end()
        stage.end_turn(3)
        assert failing.missed
        assert [stage.hub.room_size(name) for name in ("a", "b", "c")] == [1, 1, 1]
        stage.hub.broadcast("x", to="a")
        stage.end_turn()
        other.connection.leave("a")
        other.transport.end()
        stage.end_turn(3)
        assert stage.hub.room_names() == []


def test_an_interest_of_its_own_does_nothing() -> None:
    with scene() as stage:
        link, interest = stage.link(), Interest()
        stage.hub.watch_rooms(interest)
        interest.members = True
        assert link.connection.join("a")
        link.connection.leave("a")
        assert not interest.missed
