"""crest.cluster.copies: what another worker has told of the members of its rooms."""

from typing import Any

from crest.cluster.copies import Copy
from crest.presence import Presence

LOBBY, ALICE = ("lobby", False), ("alice", True)


class Teller:
    """Numbers what it tells, as a worker does."""

    def __init__(self, process: str = "a" * 16) -> None:
        self.process, self.count = process, 0

    def __call__(self, **what: Any) -> dict[str, Any]:
        self.count += 1
        return {"process": self.process, "count": self.count - 1, **what}

    def all(self, *rooms: list[Any]) -> list[dict[str, Any]]:
        return [self(first=True), *(self(rooms=[each]) for each in rooms), self(rooms=[])]


def ids(copy: Copy, *rooms: tuple[str, bool]) -> list[str]:
    return sorted(each.id for each in copy.members(rooms))


def test_all_in_parts_and_then_changes() -> None:
    copy, tell = Copy(), Teller()
    first, *parts = tell.all(["lobby", False, [1, 255]], ["alice", True, [255]], ["attic", False, [1]])
    assert copy.hear(first)
    for part in parts:
        assert not copy.whole and copy.members([LOBBY]) == []
        assert copy.hear(part)
    assert copy.whole
    assert sorted(copy.members([LOBBY])) == [Presence("a" * 16 + "-1", None), Presence("a" * 16 + "-ff", "alice")]
    assert ids(copy, LOBBY, ALICE, ("attic", False)) == ["a" * 16 + "-1", "a" * 16 + "-ff"], "each once"
    assert copy.hear(tell(changes=[[True, "lobby", False, 7], [False, "lobby", False, 1], [True, "bob", True, 7]]))
    assert sorted(copy.members([LOBBY]))[0] == Presence("a" * 16 + "-7", "bob")
    assert copy.hear(tell(changes=[[False, "bob", True, 7], [False, "alice", True, 255], [False, "lobby", False, 7]]))
    assert copy.members([LOBBY]) == [Presence("a" * 16 + "-ff", None)]
    assert copy.members([ALICE]) == []


def test_a_user_who_is_another_one_now() -> None:
    """A connection is in the new user's room before it has left the old one's, or after that."""
    new, old = [True, "bob", True, 1], [False, "alice", True, 1]
    for changes in ([new, old], [old, new]):
        copy, tell = Copy(), Teller()
        for each in tell.all(["alice", True, [1]], ["lobby", False, [1]]):
            copy.hear(each)
        copy.hear(tell(changes=changes))
        assert [each.user for each in copy.members([LOBBY])] == ["bob"]
        assert copy.members([ALICE]) == []


def test_what_is_missing_is_noticed_and_what_was_known_is_kept() -> None:
    copy, tell = Copy(), Teller()
    for each in tell.all(["lobby", False, [1]]):
        copy.hear(each)
    tell(changes=[[True, "lobby", False, 2]])
    assert not copy.hear(tell(changes=[[True, "lobby", False, 3]]))
    assert not copy.whole and ids(copy, LOBBY) == ["a" * 16 + "-1"]
    assert not copy.hear(tell(changes=[])), "nothing makes it whole but all of them"
    for each in tell.all(["lobby", False, [2, 3]]):
        assert copy.hear(each)
    assert copy.whole and ids(copy, LOBBY) == ["a" * 16 + "-2", "a" * 16 + "-3"]


def test_a_part_that_is_missing() -> None:
    copy, tell = Copy(), Teller()
    first, second, third, last = tell.all(["lobby", False, [1]], ["lobby", False, [2]])
    assert copy.hear(first) and copy.hear(second)
    assert not copy.hear(last) and not copy.whole
    copy = Copy()
    assert not copy.hear(second) and not copy.hear(third) and not copy.hear(last) and not copy.whole


def test_all_of_them_anew_while_it_is_whole() -> None:
    copy, tell = Copy(), Teller()
    for each in [*tell.all(["lobby", False, [1]]), *tell.all(["lobby", False, [2]])]:
        assert copy.hear(each)
    assert copy.whole and ids(copy, LOBBY) == ["a" * 16 + "-2"]
    first, second, _ = tell.all(["lobby", False, [3]])
    assert copy.hear(first) and copy.hear(second)
    assert copy.whole and ids(copy, LOBBY) == ["a" * 16 + "-2"], "until all have come"
    for each in tell.all(["lobby", False, [4]]):  # instead of the rest
        copy.hear(each)
    assert copy.whole and ids(copy, LOBBY) == ["a" * 16 + "-4"]


def test_another_process_with_the_same_number_begins_anew() -> None:
    copy, tell, other = Copy(), Teller(), Teller("b" * 16)
    for each in tell.all(["lobby", False, [1]]):
        copy.hear(each)
    other.count = tell.count
    assert not copy.hear(other(changes=[[True, "lobby", False, 2]]))
    for each in other.all(["lobby", False, [2]]):
        copy.hear(each)
    assert ids(copy, LOBBY) == ["b" * 16 + "-2"]
