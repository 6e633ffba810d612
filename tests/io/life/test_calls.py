"""crest.io.life.calls: what handlers raise goes to the log and to on_error, and no further."""

import asyncio
import logging
import pickle
from collections.abc import Awaitable
from typing import Any

import pytest
from support.client import BINARY, CLOSE, Frame, close_frame, frame
from support.link import Scene, closed_with, text

from crest.io.life.calls import ErrorText


def raising(*_: object) -> None:
    raise ValueError("broken")


async def raising_later(*_: object) -> None:
    await asyncio.sleep(0)
    raise ValueError("broken")


@pytest.mark.parametrize("handler", [raising, raising_later])
@pytest.mark.parametrize("event", ["on_connect", "on_message", "on_binary", "on_close"])
def test_what_a_handler_raises_goes_to_on_error(stage: Scene, handler: Any, event: str) -> None:
    stage.hub.on_message = lambda conn, message: stage.events.append(("message", conn.link, message))
    setattr(stage.hub, event, handler)
    link = stage.link()
    stage.end_turn(3)
    if event == "on_message":
        link.receive(text("x"))
    elif event == "on_binary":
        link.receive(frame(BINARY, b"x"))
    elif event == "on_close":
        link.receive(close_frame(1000))
    stage.end_turn(4)
    ((what, error),) = stage.seen(link)
    assert what == "error"
    assert error == f"handler {handler.__name__} raised ValueError: broken"
    assert type(error) is ErrorText and isinstance(error.exception, ValueError)
    if event != "on_close":
        assert link.connection.is_open()
        stage.hub.on_message = lambda conn, message: stage.events.append(("message", conn.link, message))
        link.receive(text("next"))
        stage.end_turn(3)
        assert stage.seen(link)[1:] == [("message", "next")]


@pytest.mark.parametrize("handler", [raising, raising_later])
def test_without_on_error_it_is_logged_and_the_connection_closed(
    stage: Scene, handler: Any, caplog: pytest.LogCaptureFixture
) -> None:
    stage.hub.on_error = None
    stage.hub.on_message = handler
    link, other = stage.link(), stage.link()
    link.receive(text("x") + text("not handled"))
    stage.end_turn(4)
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("crest", logging.ERROR)
    assert record.getMessage() == f"test-1: handler {handler.__name__} raised ValueError: broken"
    assert record.exc_info is not None and record.exc_info[0] is ValueError
    link.read_all()
    assert link.frames() == [Frame(CLOSE, b"\x03\xf3internal error")]
    link.receive(close_frame(1011, "internal error"))
    stage.end_turn(2)
    assert stage.seen(link) == [("close", 1011, "internal error")]
    assert other.connection.is_open()


@pytest.mark.parametrize("handler", [raising, raising_later])
def test_what_on_error_raises_is_logged_and_the_connection_closed(
    stage: Scene, handler: Any, caplog: pytest.LogCaptureFixture
) -> None:
    stage.hub.on_error = handler
    stage.hub.on_message = raising
    link = stage.link()
    link.receive(text("x"))
    stage.end_turn(4)
    assert [record.getMessage() for record in caplog.records] == [
        f"test-1: handler {each.__name__} raised ValueError: broken" for each in (raising, handler)
    ]
    assert closed_with(link) == 1011


def test_clients_mistakes_do_not_fill_the_log(stage: Scene, caplog: pytest.LogCaptureFixture) -> None:
    stage.hub.on_error = None
    with caplog.at_level(logging.INFO, "crest"):
        for seconds in (0, 0.4, 0.5, 0.2, 1.5):
            stage.loop.advance(seconds)
            stage.link().receive(frame(0x3))
    line = "test-1: frame 1: opcode 0x3 is reserved"
    assert [record.getMessage() for record in caplog.records] == [line, f"{line} (2 more before)", line]


def test_what_on_close_raises_without_on_error_is_logged(stage: Scene, caplog: pytest.LogCaptureFixture) -> None:
    stage.hub.on_error, stage.hub.on_close = None, raising_later
    link = stage.link()
    link.transport.end()
    stage.end_turn(5)
    assert len(caplog.records) == 1
    assert stage.site.gone == [link.protocol]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, asyncio.CancelledError, MemoryError, RecursionError])
@pytest.mark.parametrize("later", [False, True])
def test_nothing_that_is_raised_stops_the_server(stage: Scene, error: type[BaseException], later: bool) -> None:
    def handler(conn: object, message: str) -> Awaitable[None] | None:
        if later:
            return wait()
        raise error

    async def wait() -> None:
        raise error

    stage.hub.on_message = handler
    link = stage.link()
    link.receive(text("x") + text("y"))
    stage.end_turn(4)
    assert [type(event[1].exception) for event in stage.seen(link)] == [error] * 2
    assert link.connection.is_open()


def test_a_handler_that_cancels_itself_ends_only_itself(stage: Scene) -> None:
    calls: list[str] = []

    async def handler(conn: object, message: str) -> None:
        calls.append(message)
        task = asyncio.current_task()
        assert task is not None
        if message == "1":
            task.cancel()
        await asyncio.sleep(0)
        calls.append("end " + message)

    stage.hub.on_message = handler
    link = stage.link()
    link.receive(text("1") + text("2"))
    stage.end_turn(6)
    assert calls == ["1", "2", "end 2"]
    assert [type(event[1].exception) for event in stage.seen(link)] == [asyncio.CancelledError]


def test_an_unregistered_error_handler_is_told_of_peers_in_the_log_only(
    stage: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    stage.hub.on_error = None
    caplog.set_level(logging.INFO, "crest")
    link = stage.link()
    link.receive(frame(0x3, b""))
    (record,) = caplog.records
    assert record.levelno == logging.INFO
    assert "opcode 0x3 is reserved" in record.getMessage()
    assert stage.seen(link)[-1][:2] == ("close", 1002)


def test_names_of_handlers_without_one(stage: Scene) -> None:
    class Handler:
        def __call__(self, conn: object, message: str) -> None:
            raise ValueError("broken")

        def __repr__(self) -> str:
            return "<Handler>"

    stage.hub.on_message = Handler()
    link = stage.link()
    link.receive(text("x"))
    assert stage.seen(link) == [("error", "handler <Handler> raised ValueError: broken")]


def test_names_of_handlers_that_tell_none(stage: Scene) -> None:
    class Handler:
        def __call__(self, conn: object, message: str) -> None:
            raise ValueError("broken")

        def __repr__(self) -> str:
            raise SystemExit("no")

    stage.hub.on_message = Handler()
    link = stage.link()
    link.receive(text("x"))
    assert stage.seen(link) == [("error", "handler (a Handler) raised ValueError: broken")]


def test_error_text_is_a_str() -> None:
    error = ErrorText("what")
    assert (error, error.exception) == ("what", None)
    cause = KeyError("x")
    assert ErrorText("what", cause).exception is cause
    assert isinstance(error, str) and f"{error!r}" == "'what'"
    assert str(pickle.loads(pickle.dumps("what"))) == error
