"""crest.io.life.inbox: on_drain, when a peer has taken all that waited for it."""

import logging
from typing import Any

import pytest
from support.link import SMALL_KERNEL, Link, Scene, scene, text

LARGE = "x" * 200_000


def blocked(stage: Scene, **options: Any) -> Link:
    """A connection with more sent than its peer's kernel takes."""
    link = stage.link(send_buffer=SMALL_KERNEL, room=0, **options)
    assert link.connection.send(LARGE)
    stage.end_turn()
    assert link.connection.buffered > 0
    return link


def drains(stage: Scene) -> list[tuple[object, int]]:
    """Which connections drained, and what was buffered then; it grows."""
    found: list[tuple[object, int]] = []
    stage.hub.on_drain = lambda conn: found.append((conn, conn.buffered))
    return found


def test_it_runs_once_everything_is_taken(stage: Scene) -> None:
    found = drains(stage)
    link, other = blocked(stage), stage.link()
    other.connection.send("quick")
    stage.hub.broadcast("all")
    stage.end_turn()
    while link.connection.buffered:
        assert found == []
        link.read(10_000)
        link.transport.writable(10_000)
    assert found == [(link.connection, 0)]
    stage.end_turn(2)
    assert found == [(link.connection, 0)], "once, and never for who keeps up"
    assert link.taken() == [LARGE, "all"]


def test_it_runs_each_time(stage: Scene) -> None:
    found = drains(stage)
    link = blocked(stage)
    for times in range(1, 4):
        assert link.taken() == [LARGE]
        assert found == [(link.connection, 0)] * times
        link.transport.room = 0
        link.connection.send(LARGE)
        stage.end_turn()


def test_it_may_send(stage: Scene) -> None:
    """The next part of a long story, each time the one before has been taken."""
    left = 20

    def go_on(conn: Any) -> None:
        nonlocal left
        if left:
            left -= 1
            conn.link.transport.room = 0
            conn.send(LARGE)

    stage.hub.on_drain = go_on
    link = blocked(stage)
    for _ in range(20):
        link.read_all()
        stage.end_turn()
    assert link.taken() == [LARGE] * 21


def test_it_may_close(stage: Scene) -> None:
    stage.hub.on_drain = lambda conn: conn.close(4000)
    link = blocked(stage)
    link.read_all()
    stage.end_turn(2)
    link.read_all()
    assert [each.code for each in link.frames()[1:]] == [4000]


def test_not_once_closing_has_begun(stage: Scene) -> None:
    found = drains(stage)
    link = blocked(stage)
    link.connection.close()
    stage.end_turn()
    link.read_all()
    assert found == []


def test_what_it_raises_goes_to_on_error(stage: Scene) -> None:
    stage.hub.on_drain = lambda conn: 1 / 0
    link = blocked(stage)
    link.read_all()
    ((what, error),) = stage.seen(link)
    assert what == "error" and "ZeroDivisionError" in error and "<lambda>" in error
    assert link.connection.is_open()


def test_an_async_one_takes_its_place_among_the_others(stage: Scene) -> None:
    """It waits for the handler that runs, and messages wait for it; several times make one."""
    story: list[str] = []
    gate = stage.loop.create_future()

    async def received(conn: object, message: str) -> None:
        story.append(message)
        if message == "first":
            await gate

    async def drained(conn: object) -> None:
        story.append("drain")

    stage.hub.on_message, stage.hub.on_drain = received, drained
    link = blocked(stage)
    link.receive(text("first"))
    stage.end_turn()
    for _ in range(3):
        link.read_all()
        link.transport.room = 0
        link.connection.send(LARGE)
        stage.end_turn()
    link.read_all()
    link.receive(text("second"))
    assert story == ["first"]
    gate.set_result(None)
    stage.end_turn(5)
    assert story == ["first", "drain", "second"]


def test_one_that_waited_is_left_out_if_it_would_not_be_true(stage: Scene) -> None:
    story: list[int] = []
    gate = stage.loop.create_future()

    async def received(conn: object, message: str) -> None:
        await gate

    stage.hub.on_message = received
    stage.hub.on_drain = lambda conn: story.append(conn.buffered)
    link = blocked(stage)
    link.receive(text("x"))
    link.read_all()
    link.transport.room = 0
    link.connection.send(LARGE)
    stage.end_turn()
    gate.set_result(None)
    stage.end_turn(5)
    assert story == [], "the connection is blocked again"
    link.read_all()
    assert story == [0]


def test_one_that_blocks_the_loop_is_named(caplog: pytest.LogCaptureFixture, direct: bool) -> None:
    with scene(direct=direct, slow_handler=0.5) as stage:

        def dawdle(conn: object) -> None:
            stage.loop.clock += 2

        stage.hub.on_drain = dawdle
        link = blocked(stage)
        with caplog.at_level(logging.WARNING, "crest"):
            link.read_all()
    (record,) = caplog.records
    assert "dawdle" in record.getMessage() and "blocked the loop for 2 s" in record.getMessage()
