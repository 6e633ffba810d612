"""crest.app: arguments that an app refuses, by their names."""

import asyncio
import sys
from typing import Any

import pytest
from support.events import on_each_loop

from crest import App, WebSocketServer
from crest.running import loop_factory


@pytest.mark.parametrize("path", ["", "game", "/game?x", "/game#x"])
def test_a_path_that_no_request_can_have_is_refused(path: str) -> None:
    for call in (
        lambda: App().mount(path, WebSocketServer()),
        lambda: App().get(path),
        lambda: App().static(path, "/"),
    ):
        with pytest.raises(ValueError, match="path must begin with '/' and have no query"):
            call()


@pytest.mark.parametrize("path", [None, b"/game", 1])
def test_a_path_that_is_no_str_is_refused(path: Any) -> None:
    for call in (
        lambda: App().mount(path, WebSocketServer()),
        lambda: App().get(path),
        lambda: App().static(path, "/"),
    ):
        with pytest.raises(TypeError, match="path must be str, not " + type(path).__name__):
            call()


@pytest.mark.parametrize("wrong", [None, App, WebSocketServer, "/ws"])
def test_only_servers_are_mounted(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"mount\(\) takes a WebSocketServer, not " + type(wrong).__name__):
        App().mount("/ws", wrong)


def test_a_directory_of_static_files_must_exist() -> None:
    with pytest.raises(ValueError, match="not a directory: '/nowhere'"):
        App().static("/files", "/nowhere")


@pytest.mark.parametrize("option", ["open_timeout", "shutdown_timeout", "max_header_size", "max_headers"])
@pytest.mark.parametrize(("value", "error"), [("1", TypeError), (None, TypeError), (-1, ValueError)])
def test_a_wrong_option_is_refused_by_name(option: str, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=option):
        App(**{option: value})


@pytest.mark.parametrize(
    ("host", "port"), [("127.0.0.1", "8000"), ("127.0.0.1", None), ("127.0.0.1", 80.5), ("127.0.0.1", True)]
)
@on_each_loop
async def test_a_port_that_is_no_int_is_refused_by_name(host: Any, port: Any) -> None:
    with pytest.raises(TypeError, match=r"port must be .*int"):
        async with App().listening(host, port):
            pass


@pytest.mark.parametrize("host", [123, b"127.0.0.1"])
@on_each_loop
async def test_a_host_that_is_no_str_is_refused_by_name(host: Any) -> None:
    with pytest.raises(TypeError, match=r"host must be .*str"):
        async with App().listening(host, 0):
            pass


@pytest.mark.parametrize(
    ("option", "value", "error"),
    [
        ("close_rate", "1", TypeError),
        ("close_rate", 0, ValueError),
        ("close_rate", float("inf"), ValueError),
        ("retry_after", "1", TypeError),
        ("retry_after", -1, ValueError),
        ("retry_after", float("nan"), ValueError),
        ("keep_listening", 1, TypeError),
        ("keep_listening", None, TypeError),
        ("max_backlog_total", "1", TypeError),
        ("max_backlog_total", 1.5, TypeError),
        ("max_backlog_total", 0, ValueError),
        ("max_backlog_total", 1 << 63, ValueError),
    ],
)
def test_another_wrong_option_is_refused_by_name(option: str, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=option):
        App(**{option: value})


def test_some_options_may_be_left_out_by_none() -> None:
    app = App(close_rate=None, retry_after=None, max_backlog_total=None)
    assert (app.close_rate, app.retry_after, app.max_backlog_total) == (None, None, None)


def test_run_refuses_a_loop_that_it_does_not_know() -> None:
    with pytest.raises(ValueError, match="loop must be 'auto', 'uvloop' or 'asyncio', not 'trio'"):
        App().run(loop="trio")  # type: ignore[arg-type]


def test_run_without_uvloop(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is used where it is there, and missed only by name."""
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert loop_factory("auto") is asyncio.new_event_loop
    assert loop_factory("asyncio") is asyncio.new_event_loop
    with pytest.raises(ImportError, match="uvloop"):
        loop_factory("uvloop")


def test_an_app_shows_where_it_was_made() -> None:
    assert repr(App()).startswith(f"<App made at {__file__}:")
