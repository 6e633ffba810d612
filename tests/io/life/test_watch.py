"""crest.io.life.watch: handlers that block the loop are named, with what is known of them and no more."""

import asyncio
import functools
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.client import BINARY, close_frame, frame
from support.link import Link, Scene, scene, text


@pytest.fixture
def watched(direct: bool) -> Iterator[Scene]:
    """A server whose handlers may block the loop for half a second."""
    with scene(direct=direct, slow_handler=0.5) as made:
        yield made


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged, without the file."""
    found = [record for record in caplog.records if record.name == "crest"]
    assert all(record.levelno == logging.WARNING for record in found)
    return [record.getMessage().replace(__file__, "FILE") for record in found]


def taking(stage: Scene, seconds: float) -> Callable[..., None]:
    """A handler that takes so long."""

    def slow(*_: object) -> None:
        stage.loop.clock += seconds

    return slow


def line_of(function: Any) -> int:
    line: int = function.__code__.co_firstlineno
    return line


NAME = "taking.<locals>.slow"


def test_a_handler_that_blocks_is_named(watched: Scene, caplog: pytest.LogCaptureFixture) -> None:
    slow = watched.hub.on_message = taking(watched, 1.3)
    watched.link().receive(text("x"))
    assert warnings(caplog) == [f"test-1: handler {NAME} (FILE:{line_of(slow)}) blocked the loop for 1.3 s"]


@pytest.mark.parametrize(("seconds", "named"), [(0.49, False), (0.5, True)])
def test_from_the_threshold_on(watched: Scene, caplog: pytest.LogCaptureFixture, seconds: float, named: bool) -> None:
    watched.hub.on_message = taking(watched, seconds)
    watched.link().receive(text("x"))
    assert bool(warnings(caplog)) is named


def test_none_is_never(stage: Scene, caplog: pytest.LogCaptureFixture) -> None:
    stage.hub.on_message = taking(stage, 1e6)
    stage.link().receive(text("x"))
    assert warnings(caplog) == []


def test_many_quick_calls_are_no_slow_one(watched: Scene, caplog: pytest.LogCaptureFixture) -> None:
    slow = watched.hub.on_message = taking(watched, 0.1)
    watched.link().receive(text("x") * 12)
    place = f"(FILE:{line_of(slow)})"
    assert warnings(caplog) == [f"test-1: handler {NAME}, in 12 calls, {place} blocked the loop for 1.2 s"]


def test_calls_of_earlier_reads_do_not_count(watched: Scene, caplog: pytest.LogCaptureFixture) -> None:
    watched.hub.on_message = taking(watched, 0)
    watched.hub.on_binary = taking(watched, 2)
    one, other = watched.link(), watched.link()
    one.receive(text("x") * 5)
    other.receive(frame(BINARY, b"x"))
    (warning,) = warnings(caplog)
    assert "calls" not in warning and " and " not in warning


def test_of_two_handlers_both_are_named(watched: Scene, caplog: pytest.LogCaptureFixture) -> None:
    watched.hub.on_message = taking(watched, 0.4)
    watched.hub.on_binary = functools.partial(taking(watched, 0.4))
    watched.link().receive(text("x") + frame(BINARY, b"x"))
    (warning,) = warnings(caplog)
    assert warning.count("FILE:") == 2 and " and " in warning and "0.8 s" in warning


def test_on_connect_and_on_close_are_watched(watched: Scene, caplog: pytest.LogCaptureFixture) -> None:
    watched.hub.on_connect = watched.hub.on_close = taking(watched, 1)
    links = [watched.link() for _ in range(3)]
    links[0].receive(close_frame(1000))
    links[1].protocol.eof_received()
    links[2].transport.end()
    watched.end_turn(2)
    assert len(warnings(caplog)) == 6


class Handlers:
    def method(self, *_: object) -> None:
        self.stage.loop.clock += 1

    __call__ = method

    def __init__(self, stage: Scene) -> None:
        self.stage = stage


def test_any_callable_is_named(watched: Scene, caplog: pytest.LogCaptureFixture) -> None:
    handlers = Handlers(watched)
    link = watched.link()
    for handler in (handlers.method, handlers, functools.wraps(taking)(lambda *_: handlers.method())):
        watched.hub.on_message = handler
        link.receive(text("x"))
    method, instance, wrapped = warnings(caplog)
    assert f"handler Handlers.method (FILE:{line_of(Handlers.method)})" in method
    assert "Handlers object" in instance and "(a Handlers)" in instance
    assert f"handler taking (FILE:{line_of(taking)})" in wrapped


def test_a_step_of_an_async_handler_is_watched(watched: Scene, caplog: pytest.LogCaptureFixture) -> None:
    """Not the time that it waits."""
    log = []

    async def received(conn: Any, message: str) -> None:
        await asyncio.sleep(0)
        if message == "slow":
            watched.loop.clock += 1
        await asyncio.sleep(0)
        log.append(message)

    watched.hub.on_message = received
    link: Link = watched.link()
    for message in ("quick", "slow"):
        link.receive(text(message))
        for _ in range(6):
            watched.end_turn()
            if message == "quick":
                watched.loop.clock += 1
    assert log == ["quick", "slow"]
    (warning,) = warnings(caplog)
    assert "received (FILE" in warning and "blocked the loop for 1 s" in warning


def test_a_watched_handler_is_cancelled_and_fails_as_any_other(watched: Scene) -> None:
    errors = []
    watched.hub.on_error = lambda conn, error: errors.append(str(error))

    async def received(conn: Any, message: str) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ValueError("it was cancelled") from None

    watched.hub.on_message = received
    link = watched.link()
    link.receive(text("x"))
    watched.end_turn(2)
    (task,) = asyncio.all_tasks(watched.loop)
    task.cancel()
    watched.end_turn(2)
    assert len(errors) == 1 and errors[0].endswith("raised ValueError: it was cancelled")
