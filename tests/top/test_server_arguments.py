"""crest.server: arguments that are wrong are refused with a text that says which, and why."""

import math
import weakref
from collections.abc import Hashable
from typing import Any

import pytest

from crest import Deflate, WebSocketServer

OPTIONAL_LIMITS = ["max_connections", "max_connections_per_ip", "send_ahead"]
LIMITS = ["max_message_size", "max_fragments", "max_backlog", "max_queue", "fanout_threads", *OPTIONAL_LIMITS]


@pytest.mark.parametrize("path", ["/", "/ws", "/a/b c/é", "/ws/"])
def test_a_path_begins_with_a_slash(path: str) -> None:
    assert WebSocketServer(path).path == path


def test_the_path_is_ws_by_default() -> None:
    assert WebSocketServer().path == "/ws"


@pytest.mark.parametrize("path", ["", "ws", "ws://host/ws", "/ws?a=1", "/ws#a", "*"])
def test_a_path_that_no_request_can_have_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="path must begin with '/' and have no query"):
        WebSocketServer(path)


@pytest.mark.parametrize("path", [None, b"/ws", 1])
def test_a_path_that_is_no_str_is_refused(path: Any) -> None:
    with pytest.raises(TypeError, match="path must be str, not " + type(path).__name__):
        WebSocketServer(path)


@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.parametrize("value", [0, -1])
def test_a_limit_is_at_least_one(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at least 1, not {value}"):
        WebSocketServer(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.parametrize("value", [1.5, "1", None])
def test_a_limit_is_an_int(name: str, value: Any) -> None:
    if value is None and name in OPTIONAL_LIMITS:
        assert WebSocketServer(**{name: value}).connection_count() == 0
        return
    with pytest.raises(TypeError, match=f"{name} must be int, not {type(value).__name__}"):
        WebSocketServer(**{name: value})


@pytest.mark.parametrize("name", LIMITS)
def test_a_limit_too_large_to_be_kept_is_refused_by_name(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        WebSocketServer(**{name: 1 << 64})  # type: ignore[arg-type]


@pytest.mark.parametrize("value", ["ignore", "", None, True, ["close"]])
def test_on_backlog_is_one_of_the_policies(value: Any) -> None:
    with pytest.raises(ValueError, match="on_backlog must be one of 'close', 'drop-newest', "):
        WebSocketServer(on_backlog=value)


def test_what_is_compressed_with_context_takeover_can_not_be_dropped() -> None:
    with pytest.raises(ValueError, match="on_backlog='drop-oldest' needs"):
        WebSocketServer(on_backlog="drop-oldest", compression=Deflate(server_no_context_takeover=False))
    WebSocketServer(on_backlog="drop-oldest", compression="deflate")


@pytest.mark.parametrize("value", [0, -1, -0.5, math.nan])
def test_close_timeout_is_positive(value: float) -> None:
    with pytest.raises(ValueError, match="close_timeout must be positive"):
        WebSocketServer(close_timeout=value)


@pytest.mark.parametrize("value", ["1", None, [1]])
def test_close_timeout_is_a_number(value: Any) -> None:
    with pytest.raises(TypeError, match="close_timeout"):
        WebSocketServer(close_timeout=value)


@pytest.mark.parametrize("names", [["a b"], [""], ["ä"], ["a", "b,c"], ["a;b"]])
def test_a_subprotocol_is_a_token(names: list[str]) -> None:
    with pytest.raises(ValueError, match="not a subprotocol's name"):
        WebSocketServer(subprotocols=names)


def test_subprotocols_are_not_one_str() -> None:
    with pytest.raises(TypeError, match="subprotocols must be a sequence of names, not the str 'chat'"):
        WebSocketServer(subprotocols="chat")


@pytest.mark.parametrize("names", [[b"chat"], [1], [None]])
def test_a_subprotocol_is_a_str(names: Any) -> None:
    with pytest.raises(TypeError, match="a subprotocol must be str, not " + type(names[0]).__name__):
        WebSocketServer(subprotocols=names)


def test_options_are_given_by_name() -> None:
    with pytest.raises(TypeError):
        WebSocketServer("/ws", ["chat"])  # type: ignore[call-arg]


def test_a_server_shows_its_path_and_where_it_was_made() -> None:
    assert repr(WebSocketServer("/game")).startswith(f"<WebSocketServer '/game' made at {__file__}:")


def test_a_server_of_ones_own() -> None:
    """A subclass may have attributes and broadcasts of its own, and says its own name."""

    class Room(WebSocketServer):
        def __init__(self, name: str) -> None:
            super().__init__("/room")
            self.name = name
            self.said: list[str] = []

        def broadcast(self, text: str, *, key: Hashable = None, compress: bool = True) -> None:
            self.said.append(text)
            super().broadcast(f"{self.name}: {text}", key=key, compress=compress)

    room = Room("lobby")
    room.broadcast("hello")
    assert room.said == ["hello"]
    assert repr(room).startswith("<Room '/room' made at ")
    assert weakref.ref(room)() is room


@pytest.mark.parametrize("name", ["broadcast", "broadcast_binary"])
@pytest.mark.parametrize(
    ("args", "options"),
    [
        ((), {}),
        ((), {"key": "a", "compress": False}),
        (("a", "key"), {}),
        (("a", None, False), {}),
        (("a",), {"keys": "a"}),
        (("a",), {"message": "a"}),
    ],
)
def test_what_broadcasts_do_not_take(name: str, args: tuple[Any, ...], options: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=rf"^{name}\(\) (takes|got)"):
        getattr(WebSocketServer(), name)(*args, **options)


@pytest.mark.parametrize("options", [{}, {"key": "a"}, {"compress": False}])
def test_broadcasts_of_the_wrong_kind_name_the_right_method(options: dict[str, Any]) -> None:
    ws = WebSocketServer()
    with pytest.raises(TypeError, match=r"broadcast\(\) takes str, not bytes; broadcast_binary\(\) takes bytes"):
        ws.broadcast(b"a", **options)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"broadcast_binary\(\) takes a bytes-like object, not str; broadcast\(\) "):
        ws.broadcast_binary("a", **options)  # type: ignore[arg-type]
    for broadcast in (ws.broadcast, ws.broadcast_binary):
        with pytest.raises(TypeError):
            broadcast(None, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("key", [[], {}, ("a", [])])
def test_a_key_is_hashable_whoever_listens(key: Any) -> None:
    ws = WebSocketServer()
    with pytest.raises(TypeError, match="unhashable"):
        ws.broadcast("a", key=key)
    with pytest.raises(TypeError, match="unhashable"):
        ws.broadcast_binary(b"a", key=key)
