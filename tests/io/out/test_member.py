"""crest.io.out.member: joining and leaving, from wherever, and what a connection says of its rooms."""

import threading
from collections.abc import Callable

import pytest
from support.client import close_frame
from support.link import Link, Scene, scene

from crest.io.out.address import UserRoom


def in_thread(call: Callable[[], object]) -> None:
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()


def test_a_room_begins_with_its_first_member_and_ends_with_its_last(stage: Scene) -> None:
    first, second = stage.link().connection, stage.link().connection
    assert stage.hub.room_names() == []
    assert first.join("a") and first.join("b") and second.join("a")
    assert first.join("a"), "it is there already"
    assert sorted(stage.hub.room_names()) == ["a", "b"]
    assert (stage.hub.room_size("a"), stage.hub.room_size("b"), stage.hub.room_size("c")) == (2, 1, 0)
    assert first.rooms == {"a", "b"}
    first.leave("a")
    first.leave("a")
    first.leave("never")
    assert first.rooms == {"b"}
    second.leave("a")
    assert stage.hub.room_names() == ["b"]
    first.leave("b")
    assert stage.hub.room_names() == []
    assert first.rooms == second.rooms == frozenset()


@pytest.mark.parametrize("how", ["close", "peer", "lost"])
def test_who_closes_leaves_and_still_says_where_it_was(direct: bool, how: str) -> None:
    with scene(direct=direct) as stage:
        link, other = stage.link(), stage.link()
        told: list[frozenset[str]] = []
        stage.hub.on_close = lambda conn, code, reason: told.append(conn.rooms)
        for each in (link, other):
            each.connection.join("a")
        link.connection.join("b")
        end(stage, link, how)
        assert stage.hub.room_names() == ["a"]
        assert stage.hub.room_size("a") == 1
        assert link.connection.rooms == {"a", "b"}
        assert link.connection.join("c") is False
        link.connection.leave("a")
        assert link.connection.rooms == {"a", "b"}
        assert stage.hub.room_names() == ["a"]
        stage.end_turn(3)
        if how == "close":
            link.receive(close_frame(1000))
            link.transport.end()
            stage.end_turn(3)
        assert told == [{"a", "b"}]


def end(stage: Scene, link: Link, how: str) -> None:
    if how == "close":
        link.connection.close()
    elif how == "peer":
        link.receive(close_frame(1000))
    else:
        link.transport.end()
        stage.end_turn()


def test_before_it_opens_and_after_it_has_ended(stage: Scene) -> None:
    link = stage.link()
    link.transport.end()
    stage.end_turn()
    assert link.connection.join("a") is False
    assert link.connection.rooms == frozenset()
    in_thread(lambda: link.connection.join("a"))
    stage.end_turn()
    assert stage.hub.room_names() == []


def test_another_thread_joins_and_leaves_in_its_order(stage: Scene) -> None:
    link = stage.link()

    def work() -> None:
        assert link.connection.join("a")
        stage.hub.broadcast("1", to="a")
        link.connection.leave("a")
        stage.hub.broadcast("2", to="a")
        link.connection.join("b")

    in_thread(work)
    assert link.connection.rooms == frozenset(), "the loop has not got to it"
    stage.end_turn(2)
    assert link.connection.rooms == {"b"}
    assert link.taken() == ["1"]


def test_it_closes_before_the_loop_gets_to_what_a_thread_asked_for(stage: Scene) -> None:
    link = stage.link()
    link.connection.join("b")
    in_thread(lambda: link.connection.join("a"))
    in_thread(lambda: link.connection.leave("b"))
    link.connection.close()
    stage.end_turn(2)
    assert stage.hub.room_names() == []
    assert link.connection.rooms == {"b"}


def test_users_have_rooms_of_their_own(stage: Scene) -> None:
    first, second, third = (stage.link() for _ in range(3))
    first.connection._be_user("alice")
    second.connection._be_user("alice")
    third.connection._be_user("bob")
    third.connection.join("alice")
    stage.hub.broadcast("x", to=UserRoom("alice"))
    stage.hub.broadcast("y", to="alice")
    stage.hub.broadcast("z", to=[UserRoom("alice"), UserRoom("bob"), "alice"])
    stage.end_turn()
    assert [link.taken() for link in (first, second, third)] == [["x", "z"], ["x", "z"], ["y", "z"]]
    assert stage.hub.room_names() == ["alice"], "users are not among them"
    assert stage.hub.room_size(UserRoom("alice")) == 2
    assert first.connection.rooms == frozenset()


def test_a_connection_in_rooms_becomes_a_user_s(stage: Scene) -> None:
    connection = stage.link().connection
    connection.join("a")
    connection._be_user("alice")
    assert stage.hub.room_size(UserRoom("alice")) == 1
    assert connection.rooms == {"a"}
    connection._be_user(None)
    connection._be_user(None)
    assert stage.hub.room_size(UserRoom("alice")) == 0
    assert connection.rooms == {"a"}


def test_a_user_changes(stage: Scene) -> None:
    link = stage.link()
    connection = link.connection
    for name in ("alice", "alice", "bob", None, "carol"):
        connection._be_user(name)
        for other in ("alice", "bob", "carol"):
            assert stage.hub.room_size(UserRoom(other)) == (name == other)
    in_thread(lambda: connection._be_user("dave"))
    assert stage.hub.room_size(UserRoom("dave")) == 0
    stage.end_turn()
    assert stage.hub.room_size(UserRoom("dave")) == 1
    assert stage.hub.room_size(UserRoom("carol")) == 0
    connection.close()
    assert stage.hub.room_size(UserRoom("dave")) == 0
    connection._be_user("erin")
    assert stage.hub.room_size(UserRoom("erin")) == 0
