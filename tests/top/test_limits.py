"""crest.limits: the options of a server are listed once, checked, and fixed from then on."""

import inspect
from dataclasses import FrozenInstanceError, dataclass, fields
from typing import Any

import pytest

from crest import Accept, Deflate, WebSocketServer
from crest.admission.acceptance import CHECKS
from crest.limits import Limits
from crest.options import check_count, option


def test_a_server_takes_them_all_by_name_and_its_path_first() -> None:
    parameters = inspect.signature(WebSocketServer).parameters
    assert list(parameters) == [each.name for each in fields(Limits)]
    first, *others = parameters.values()
    assert first.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    assert {each.kind for each in others} == {inspect.Parameter.KEYWORD_ONLY}


def test_one_more_is_one_line() -> None:
    @dataclass(frozen=True, kw_only=True, eq=False, repr=False)
    class More(Limits):
        max_rooms: int = option(10, check_count, 1000)

    class MoreServer(WebSocketServer[Any], More):
        """As WebSocketServer would be with that line."""

    assert MoreServer("/a").max_rooms == 10 and MoreServer("/a", max_rooms=20).max_rooms == 20
    with pytest.raises(ValueError, match="max_rooms must be at most 1000, not 2000"):
        MoreServer(max_rooms=2000)


def test_each_is_checked() -> None:
    """The origins by the object that is made of them."""
    assert {each.name for each in fields(Limits) if "check" not in each.metadata} == {"origins"}
    for name in inspect.signature(WebSocketServer).parameters:
        with pytest.raises((TypeError, ValueError), match=name.rstrip("s")):
            WebSocketServer(**{name: object()})


def test_what_they_are_is_what_was_checked() -> None:
    ws = WebSocketServer(compression="deflate", on_backlog="drop", max_message_rate=5, subprotocols=["a"])
    assert isinstance(ws.compression, Deflate)
    assert (ws.on_backlog, ws.max_message_rate, ws.subprotocols) == ("drop-newest", (5.0, 5.0), ("a",))


def test_they_are_fixed() -> None:
    ws = WebSocketServer()
    for name in ("max_queue", "path"):
        with pytest.raises(FrozenInstanceError, match=name):
            setattr(ws, name, 1)
    ws.rooms = {}  # type: ignore[attr-defined]  # what is the application's own is not


def test_limits_of_one_connection_have_the_same_checks() -> None:
    given = set(inspect.signature(Accept).parameters) - {"user"}
    assert given <= set(CHECKS)
    for name in given:
        with pytest.raises((TypeError, ValueError), match=name):
            Accept(**{name: object()})
