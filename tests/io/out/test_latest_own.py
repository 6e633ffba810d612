"""crest.io.out.latest: messages with a key that only some get, sent to one connection or to a room."""

import logging
import threading
from collections.abc import Callable, Iterator

import pytest
from support.client import CLOSE, TEXT
from support.compressing import agreement
from support.link import Link, Scene, scene, stalled

from crest.wire.extensions import Deflate

LIMIT = 100_000
FIRST = "x" * 80_000
"""What a stalled connection has begun to send."""


@pytest.fixture
def latest(direct: bool) -> Iterator[Scene]:
    with scene(direct=direct, max_backlog=LIMIT, on_backlog="latest") as made:
        yield made


def behind(link: Link) -> list[str]:
    """What came behind the message that had begun."""
    begun, *got = link.taken()
    assert begun == FIRST
    return got


def in_thread(call: Callable[[], object]) -> None:
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()


def test_a_thread_sends_values(latest: Scene) -> None:
    link, other = stalled(latest), latest.link()

    def work() -> None:
        for each in (link, other):
            assert each.connection.send("a", key="k")
            assert each.connection.send_binary(b"b", key="k")

    in_thread(work)
    latest.end_turn(2)
    link.read_all()
    other.read_all()
    assert [each.payload for each in link.frames()[1:]] == [b"b"]
    assert [(each.opcode == TEXT, each.payload) for each in other.frames()] == [(True, b"a"), (False, b"b")]
    assert [each.connection.dropped for each in (link, other)] == [1, 0]


def test_values_that_are_more_than_may_wait_are_refused(latest: Scene) -> None:
    link = stalled(latest)
    assert link.connection.send("y" * 60_000, key="k")
    assert link.connection.send("z" * 60_000, key="k"), "it supersedes the one before"
    assert not link.connection.send("y" * 60_000, key="another")
    latest.end_turn(2)
    assert not link.connection.is_open()


def test_a_broadcast_of_this_turn_was_too_much_before_a_value(latest: Scene) -> None:
    link, other = stalled(latest), latest.link()
    latest.hub.broadcast("y" * (LIMIT + 1))
    assert not link.connection.send("value", key="k")
    latest.end_turn(2)
    assert not link.connection.is_open()
    assert link.connection.dropped == 2
    assert other.taken() == ["y" * (LIMIT + 1)]


def test_values_that_wait_as_the_connection_fails_count_as_dropped(latest: Scene) -> None:
    link = stalled(latest)
    for i in range(3):
        assert link.connection.send("value", key=i)
    assert link.connection.dropped == 0
    latest.hub.broadcast("y" * (LIMIT + 1))
    latest.end_turn(2)
    assert link.connection.dropped == 4
    link.read_all()
    assert [each.opcode for each in link.frames()] == [TEXT, CLOSE]


def test_a_member_that_lags_and_is_excluded_does_not_get_the_value(latest: Scene) -> None:
    link, other = stalled(latest), stalled(latest)
    latest.hub.broadcast("old", key="b")
    latest.hub.broadcast("a", key="a", exclude=link.connection)
    latest.hub.broadcast("b", key="b")
    latest.end_turn()
    assert behind(link) == ["b"]
    assert behind(other) == ["a", "b"]
    assert [each.connection.dropped for each in (link, other)] == [1, 1]


@pytest.mark.parametrize("alone", [False, True])
def test_a_value_is_compressed_by_itself(direct: bool, alone: bool) -> None:
    """Those that were sent after it may come before it."""
    options = Deflate(threshold=0, server_no_context_takeover=alone)
    with scene(direct=direct, max_backlog=LIMIT, on_backlog="latest", deflate=options) as stage:
        link = stalled(stage, agreed=agreement(options))
        value, text = "value " * 20, "text " * 20
        assert link.connection.send(value, key="k")
        assert link.connection.send(text)
        stage.end_turn()
        assert link.inflated() == [(FIRST, False), (text, True), (value, True)]


def test_a_key_that_can_not_be_compared_supersedes_nothing(latest: Scene, caplog: pytest.LogCaptureFixture) -> None:
    class Key:
        def __hash__(self) -> int:
            return 1

        def __eq__(self, other: object) -> bool:
            raise ZeroDivisionError

    link, other = stalled(latest), latest.link()
    for each in (link, other):
        each.connection.join("a")
    with caplog.at_level(logging.ERROR, "crest"):
        for text in ("one", "two"):
            latest.hub.broadcast(text, key=Key(), to="a")
    latest.end_turn()
    assert [record.getMessage() for record in caplog.records] == ["A key could not be compared with another one"]
    assert sorted(behind(link)) == ["one", "two"]
    assert other.taken() == ["one", "two"]
    assert link.connection.dropped == 0


def test_a_room_after_a_broadcast_that_was_too_much(latest: Scene) -> None:
    link, other = stalled(latest), latest.link()
    for each in (link, other):
        each.connection.join("a")
    latest.hub.broadcast("y" * (LIMIT + 1))
    latest.hub.broadcast("value", key="k", to="a")
    latest.end_turn(2)
    assert not link.connection.is_open()
    assert link.connection.dropped == 2
    assert other.taken() == ["y" * (LIMIT + 1), "value"]
