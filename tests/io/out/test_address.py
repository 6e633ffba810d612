"""crest.io.out.address: what `to`, `exclude` and a room's name may be, and what is said of anything else."""

import pytest
from support.link import Scene

from crest.io.out.address import UserRoom


class Text(str):
    """A subclass, of which crest keeps a copy."""

    __slots__ = ()


@pytest.mark.parametrize("to", ["a", Text("a"), ["a"], ("a", "a"), {"a": 1}, {"b", "a"}, [UserRoom("u"), "a"]])
def test_one_room_or_several(stage: Scene, to: object) -> None:
    link, other = stage.link(), stage.link()
    link.connection.join("a")
    stage.hub.broadcast("x", to=to)
    stage.end_turn()
    assert link.taken() == ["x"]
    assert other.taken() == []


@pytest.mark.parametrize("to", [[], (), set(), "nobody", ["nobody"], UserRoom("nobody")])
def test_rooms_without_members_are_no_error(stage: Scene, to: object) -> None:
    """Least of all are they everyone."""
    link = stage.link()
    stage.hub.broadcast("x", to=to)
    stage.hub.broadcast_binary(b"x", to=to)
    stage.end_turn()
    assert link.taken() == []


@pytest.mark.parametrize(
    ("to", "error", "message"),
    [
        (1, TypeError, "to must be a room's name, what user.. returns, or several of them, not int"),
        (b"room", TypeError, "a room's name must be str, not int"),
        ([b"room"], TypeError, "a room's name must be str, not bytes"),
        ([None], TypeError, "a room's name must be str, not NoneType"),
        ([["a"]], TypeError, "a room's name must be str, not list"),
        ("", ValueError, "a room's name must not be empty"),
        (["a", ""], ValueError, "a room's name must not be empty"),
        ("\ud800", ValueError, "surrogates not allowed"),
    ],
)
def test_what_is_no_room(stage: Scene, to: object, error: type[Exception], message: str) -> None:
    link = stage.link()
    for call, what in ((stage.hub.broadcast, "x"), (stage.hub.broadcast_binary, b"x")):
        with pytest.raises(error, match=message):
            call(what, to=to)  # type: ignore[operator]
    stage.end_turn()
    assert link.taken() == []


def test_a_connection_is_no_room(stage: Scene) -> None:
    link = stage.link()
    with pytest.raises(TypeError, match="not Connection"):
        stage.hub.broadcast("x", to=link.connection)


@pytest.mark.parametrize(
    ("exclude", "message"),
    [
        (1, "exclude must be a connection or several, not int"),
        ("room", "exclude must be a connection or several, and str is no connection"),
        ([None], "exclude must be a connection or several, and NoneType is no connection"),
    ],
)
def test_what_can_not_be_excluded(stage: Scene, exclude: object, message: str) -> None:
    link = stage.link()
    with pytest.raises(TypeError, match=message):
        stage.hub.broadcast("x", exclude=exclude)
    stage.end_turn()
    assert link.taken() == []


@pytest.mark.parametrize("room", [None, 1, b"a", ["a"], UserRoom("a")])
def test_what_can_not_be_joined(stage: Scene, room: object) -> None:
    connection = stage.link().connection
    with pytest.raises(TypeError):
        connection.join(room)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        connection.leave(room)  # type: ignore[arg-type]
    for name in ("", "\ud800"):
        with pytest.raises(ValueError, match=r"empty|surrogates"):
            connection.join(name)
        with pytest.raises(ValueError, match=r"empty|surrogates"):
            connection.leave(name)
    assert connection.rooms == frozenset()
    assert stage.hub.room_names() == []


def test_rooms_of_users_are_values() -> None:
    assert UserRoom("a") == UserRoom("a") != UserRoom("b")
    assert len({UserRoom("a"), UserRoom("a"), "a"}) == 2
    assert UserRoom("a") != "a"
    assert repr(UserRoom("a")) == "UserRoom('a')"
    assert UserRoom("a").name == "a"
    for wrong, error in ((None, TypeError), (1, TypeError), ("", ValueError), ("\ud800", ValueError)):
        with pytest.raises(error):
            UserRoom(wrong)  # type: ignore[arg-type]
