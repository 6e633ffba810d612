"""crest.handlers: what is registered, and what a registration that registers nothing is told."""

import re
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any
from unittest.mock import Mock

import pytest

from crest import App, WebSocketServer

EVENTS = ["on_upgrade", "on_connect", "on_message", "on_binary", "on_close", "on_error", "on_drain"]


def registering(name: str) -> Any:
    """The method of this name; `get` for a path."""
    return App().get("/") if name == "get" else getattr(WebSocketServer(), name)


class Player:
    """What has handlers, and is one."""

    def __call__(self, *args: object) -> None: ...

    def method(self, *args: object) -> None: ...

    async def async_method(self, *args: object) -> None: ...

    def yielding(self, *args: object) -> Iterator[int]:
        yield 1


async def plain(*args: object) -> None: ...


def yielding(*args: object) -> Iterator[int]:
    yield 1


async def yielding_later(*args: object) -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize("name", [*EVENTS, "get"])
@pytest.mark.parametrize(
    "handler",
    [plain, Player(), Player().method, Player().async_method, partial(plain, 1), Player, Mock()],
    ids=["function", "object", "method", "async method", "partial", "class", "mock"],
)
def test_what_can_be_called_is_registered_and_returned(name: str, handler: Callable[..., Any]) -> None:
    assert registering(name)(handler) is handler
    assert registering(name)(handler=handler) is handler


@pytest.mark.parametrize("name", [*EVENTS, "get"])
@pytest.mark.parametrize("wrong", [None, "handler", 1])
def test_what_can_not_be_called_is_refused(name: str, wrong: object) -> None:
    with pytest.raises(TypeError, match=f"^{name} registers a function, not {type(wrong).__name__}$"):
        registering(name)(wrong)


@pytest.mark.parametrize("name", [*EVENTS, "get"])
@pytest.mark.parametrize(
    "handler",
    [yielding, yielding_later, Player().yielding, partial(yielding, 1)],
    ids=["generator", "async generator", "method", "partial"],
)
def test_what_yields_is_refused(name: str, handler: object) -> None:
    with pytest.raises(TypeError, match=f"^{name} registers a function that returns; this one yields: "):
        registering(name)(handler)


@pytest.mark.parametrize("name", EVENTS)
def test_a_decorator_with_empty_parentheses_says_how_it_is_written(name: str) -> None:
    written = re.escape(
        f"{name} has nothing to register: write @ws.{name}, without parentheses, or ws.{name}(function)"
    )
    with pytest.raises(TypeError, match=f"^{written}$"):
        getattr(WebSocketServer(), name)()
    with pytest.raises(TypeError, match=f"^{written}$"):  # of the class, which is no server

        @getattr(WebSocketServer, name)
        def handler(*args: object) -> None: ...


@pytest.mark.parametrize("call", [lambda get: get(), lambda get: get(plain)], ids=["empty", "bare"])
def test_a_page_without_a_path_says_how_it_is_written(call: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError, match=r'write @app\.get\("/path"\)$'):
        call(App().get)


def test_a_server_s_subclass_registers_its_own_methods() -> None:
    class Game(WebSocketServer):
        def __init__(self) -> None:
            super().__init__("/game")
            self.on_message(self.received)

        def received(self, conn: object, message: str) -> None: ...

    game = Game()
    assert game.on_connect(game.received) == game.received  # type: ignore[type-var]
