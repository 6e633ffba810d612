"""What tests of handlers share: plain and async ones, a record of what they were called for, and async tests."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any

from conftest import Run

from support.client import GUARD

KINDS = ["plain", "async"]
"""The two kinds of handlers, to parametrize a test with."""


def of_kind(kind: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function as a handler of this kind; an async one lets the loop turn before it does anything."""
    if kind == "plain":
        return function

    @wraps(function)
    async def handler(*args: Any) -> Any:
        await asyncio.sleep(0)
        return function(*args)

    return handler


def on_each_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """An async test as a plain one, which the fixture `run` runs on each event loop."""

    @wraps(test)
    def synchronous(run: Run[None], **arguments: Any) -> None:
        run(test(**arguments))

    signature = inspect.signature(test)
    first = inspect.Parameter("run", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    synchronous.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[first, *signature.parameters.values()], return_annotation=None
    )
    return synchronous


async def turns(count: int = 1) -> None:
    """Let the loop turn so many times."""
    for _ in range(count):
        await asyncio.sleep(0)


class Events:
    """What was recorded, in order: a list of tuples that tests can wait for."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self._changed = asyncio.Event()

    def add(self, *event: Any) -> None:
        """Record an event; one value stands for itself."""
        self.seen.append(event[0] if len(event) == 1 else event)
        self._changed.set()

    async def reach(self, count: int) -> list[Any]:
        """All events, once there are so many."""
        async with asyncio.timeout(GUARD):
            while len(self.seen) < count:
                self._changed.clear()
                await self._changed.wait()
        return self.seen


async def until(happened: asyncio.Event) -> None:
    """Wait for it, with an end."""
    async with asyncio.timeout(GUARD):
        await happened.wait()


class Gate:
    """Where a handler waits until the test lets it go on."""

    def __init__(self) -> None:
        self._reached, self._opened = asyncio.Event(), asyncio.Event()

    async def passed(self) -> None:
        """For the handler: to go through, once it is open."""
        self._reached.set()
        await self._opened.wait()

    def before(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function as a handler that goes through first."""

        @wraps(function)
        async def handler(*args: Any) -> Any:
            await self.passed()
            return function(*args)

        return handler

    async def reached(self) -> None:
        """For the test: until a handler waits, or went through."""
        await until(self._reached)

    def open(self) -> None:
        self._opened.set()
