"""Types of handlers and pages, and the checks when applications register them.

A bound says what a handler is called with and what it may return. Registering returns the handler unchanged, so each
type is a variable: a decorated function keeps its own type. Where a handler returns `object`, crest ignores the value;
if it is an awaitable, crest awaits it and ignores its result.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import wraps
from inspect import isasyncgenfunction, isgeneratorfunction
from typing import Any, Never, Protocol, TypeVar

from crest.connection import WebSocketConnection
from crest.gap import Gap
from crest.http.messages import Request, Response
from crest.io.life.calls import ErrorText


class JsonObject(Protocol):
    """A `dict`, or a `TypedDict`, which type checkers do not take for a `dict`; but no immutable mapping."""

    def copy(self) -> Mapping[Any, Any]: ...
    def __delitem__(self, key: Never, /) -> None: ...


Answer = str | bytes | bytearray | memoryview | Response | JsonObject
"""The types that a page may return."""

Method = TypeVar("Method", bound=Callable[..., Any])
ConnectionHandler = TypeVar("ConnectionHandler", bound=Callable[[WebSocketConnection], object])
TextHandler = TypeVar("TextHandler", bound=Callable[[WebSocketConnection, str], object])
BinaryHandler = TypeVar("BinaryHandler", bound=Callable[[WebSocketConnection, bytes], object])
CloseHandler = TypeVar("CloseHandler", bound=Callable[[WebSocketConnection, int, str], object])
GapHandler = TypeVar("GapHandler", bound=Callable[[Gap], object])
ErrorHandler = TypeVar("ErrorHandler", bound=Callable[[WebSocketConnection, ErrorText], object])
LifetimeHandler = TypeVar("LifetimeHandler", bound=Callable[[], object])
Page = TypeVar("Page", bound=Callable[[Request], Answer | Awaitable[Answer]])


def check_handler(name: str, handler: object) -> None:
    """Check a handler that the method of this name is to register.

    Raises:
        TypeError: It can not be called; or it yields, so that a call would run nothing of it.
    """
    if not callable(handler):
        raise TypeError(f"{name} registers a function, not {type(handler).__name__}")
    if isgeneratorfunction(handler) or isasyncgenfunction(handler):
        raise TypeError(f"{name} registers a function that returns; this one yields: {handler!r}")


def written(usage: str) -> Callable[[Method], Method]:
    """Decorate a method so that, called without its argument, it says how a call is written.

    A decorator with empty parentheses, `@ws.on_message()`, is such a call.
    """

    def decorate(method: Method) -> Method:
        @wraps(method)
        def call(*args: object, **named: object) -> object:
            if len(args) + len(named) < 2:
                raise TypeError(f"{method.__name__} has nothing to register: write {usage}")
            return method(*args, **named)

        return call  # type: ignore[return-value]  # the type checker does not know that `wraps` keeps the type

    return decorate


def registering(owner: str) -> Callable[[Method], Method]:
    """Decorate a method so that it checks the handler that it is to register.

    Args:
        owner: The name that errors give to the method's object.
    """

    def decorate(method: Method) -> Method:
        name = method.__name__

        @written(f"@{owner}.{name}, without parentheses, or {owner}.{name}(function)")
        @wraps(method)
        def register(owner: object, handler: object) -> object:
            check_handler(name, handler)
            return method(owner, handler)

        return register  # type: ignore[return-value]

    return decorate
