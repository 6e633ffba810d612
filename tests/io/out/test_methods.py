"""crest.io.out.methods: the fast way into `send` and `send_binary` does what the other one does; broadcasts."""

from typing import Any

import pytest
from support.client import BINARY, TEXT, Frame
from support.link import Scene

from crest import WebSocketConnection, WebSocketServer
from crest.io.out.methods import Broadcaster, with_own_methods
from crest.io.out.outbox import Outbox


@with_own_methods
class Own(Outbox):
    """As `WebSocketConnection` is."""


NAMES = ["send", "send_binary"]


@pytest.mark.parametrize("name", NAMES)
def test_methods_are_the_subclasss_own(name: str) -> None:
    """Of a kind that CPython's bytecode knows, and described as the Outbox's."""
    for cls in (Own, WebSocketConnection):
        method, original = cls.__dict__[name], Outbox.__dict__[name]
        assert type(method) is type(original)
        assert method.__objclass__ is cls
        assert (method.__doc__, method.__text_signature__) == (original.__doc__, original.__text_signature__)


def test_messages_are_sent_either_way(stage: Scene) -> None:
    link = stage.link()
    send, send_binary = Own.__dict__["send"], Own.__dict__["send_binary"]
    for descriptor in (send, send_binary):
        with pytest.raises(TypeError, match="'Own' objects"):
            descriptor(link.connection, "of another class")
    for compress in ({}, {"compress": True}, {"compress": False}):
        link.connection.send("text", **compress)
        link.connection.send_binary(b"data", **compress)
    stage.end_turn()
    link.read_all()
    assert link.frames() == [Frame(TEXT, b"text"), Frame(BINARY, b"data")] * 3


NONE_GIVEN, TWO_GIVEN = r"takes exactly 1 positional argument \(0 given\)", r".* argument \(2 given\)"


@pytest.mark.parametrize(("name", "message"), [("send", "a"), ("send_binary", b"a")])
@pytest.mark.parametrize(
    ("count", "options", "error"),
    [
        (0, {}, NONE_GIVEN),
        (0, {"compress": False}, NONE_GIVEN),
        (0, {"text": "a"}, NONE_GIVEN),
        (0, {"data": b"a", "compress": True}, NONE_GIVEN),
        (2, {}, TWO_GIVEN),
        (2, {"compress": False}, TWO_GIVEN),
        (1, {"compressed": False}, "got an unexpected keyword argument 'compressed'"),
        (1, {"compress": False, "keys": 1}, "got an unexpected keyword argument 'keys'"),
    ],
)
def test_wrong_arguments(name: str, message: str | bytes, count: int, options: dict[str, Any], error: str) -> None:
    """The same errors, whichever way in."""
    for made in (Own(), Outbox(), WebSocketConnection.__new__(WebSocketConnection)):
        with pytest.raises(TypeError, match=rf"^{name}\(\) {error}"):
            getattr(made, name)(*[message] * count, **options)


@pytest.mark.parametrize("options", [{}, {"compress": True}, {"compress": False}])
def test_the_wrong_kind_of_message(options: dict[str, bool]) -> None:
    """The text names the method for it."""
    for made in (Own(), Outbox()):
        with pytest.raises(TypeError, match=r"send\(\) takes str, not bytes; send_binary\(\) takes bytes"):
            made.send(b"a", **options)
        with pytest.raises(TypeError, match=r"send_binary\(\) takes a bytes-like object, not str; send\(\) "):
            made.send_binary("a", **options)
        for method in (made.send, made.send_binary):
            with pytest.raises(TypeError):
                method(None, **options)


class Undecided:
    def __bool__(self) -> bool:
        raise ZeroDivisionError


@pytest.mark.parametrize(("name", "message"), [("send", "a"), ("send_binary", b"a")])
def test_compress_is_a_truth_value(stage: Scene, name: str, message: str | bytes) -> None:
    link = stage.link()
    for value in (None, 0, 1, "yes", []):
        assert getattr(link.connection, name)(message, compress=value) is True
    with pytest.raises(ZeroDivisionError):
        getattr(link.connection, name)(message, compress=Undecided())
    stage.end_turn()
    link.read_all()
    assert len(link.frames()) == 5


@pytest.mark.parametrize("name", NAMES)
def test_before_a_connection_is_open(name: str) -> None:
    made, message = Own(), "a" if name == "send" else b"a"
    assert getattr(made, name)(message) is False
    assert getattr(made, name)(message, compress=False) is False


def test_exceptions_come_through() -> None:
    with pytest.raises(UnicodeEncodeError):
        Own().send("\ud800")
    with pytest.raises(UnicodeEncodeError):
        Own().send("\ud800", compress=False)


def test_broadcasts_reach_the_hubs_connections(stage: Scene) -> None:
    link, broadcaster = stage.link(), Broadcaster()
    broadcaster._hub = stage.hub
    broadcaster.broadcast("text")
    broadcaster.broadcast(text="named", key=1, compress=False)
    broadcaster.broadcast_binary(bytearray(b"data"), key="AAPL")
    stage.end_turn()
    link.read_all()
    assert link.frames() == [Frame(TEXT, b"text"), Frame(TEXT, b"named"), Frame(BINARY, b"data")]


@pytest.mark.parametrize("method", ["broadcast", "broadcast_binary"])
@pytest.mark.parametrize(
    ("arguments", "options", "text"),
    [
        ((), {}, "positional argument|argument: "),
        ((None,), {}, "must not be None"),
        ((1,), {}, "broadcast"),
        (("a", "key"), {}, "takes exactly 1 positional argument"),
        ((), {"message": "a"}, "message|argument"),
        (("a",), {"keys": 1}, "unexpected keyword argument"),
        (("a",), {"key": []}, "unhashable"),
    ],
)
def test_wrong_arguments_of_a_broadcast(
    method: str, arguments: tuple[Any, ...], options: dict[str, Any], text: str, stage: Scene
) -> None:
    link, broadcaster = stage.link(), Broadcaster()
    broadcaster._hub = stage.hub
    if method == "broadcast_binary":
        arguments = tuple(each.encode() if isinstance(each, str) else each for each in arguments)
    with pytest.raises(TypeError, match=text):
        getattr(broadcaster, method)(*arguments, **options)
    stage.end_turn()
    assert link.taken() == []


class Forgetful(WebSocketServer):
    """Its `__init__` does not call that of the class it extends."""

    def __init__(self) -> None:
        pass


def test_a_server_that_was_not_initialized_says_so() -> None:
    for broadcast in (lambda: Forgetful().broadcast("text"), lambda: Forgetful().broadcast_binary(b"data")):
        with pytest.raises(AttributeError, match="NoneType"):
            broadcast()
