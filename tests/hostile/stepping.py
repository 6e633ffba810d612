"""Event loops that call crest's own `through` something: the failing allocator, or nothing.

They call nothing else through that, as a loop does not survive what crest must.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import crest
from crest.io.life.protocol import ServerProtocol

Through = Callable[..., Any]


def is_own(callback: Any) -> bool:
    """True if a callback is a method of crest's."""
    while isinstance(callback, partial):
        callback = callback.func
    return type(getattr(callback, "__self__", None)).__module__.startswith("crest.")


def is_own_coroutine(coroutine: Any) -> bool:
    """True if a coroutine is crest's, in Python or compiled."""
    code = getattr(coroutine, "cr_code", None)
    return type(coroutine).__module__.startswith("_cython") or (
        code is not None and os.path.dirname(crest.__file__) in code.co_filename
    )


class Steps(Coroutine[Any, Any, Any]):
    """A coroutine, each step of which goes through something."""

    def __init__(self, through: Through, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._through, self._coroutine = through, coroutine
        self.__qualname__ = getattr(coroutine, "__qualname__", "steps")

    def send(self, value: Any) -> Any:
        return self._through(self._coroutine.send, value)

    def throw(self, *error: Any) -> Any:
        return self._through(self._coroutine.throw, *error)

    def close(self) -> None:
        self._coroutine.close()

    def __await__(self) -> Any:
        return self


class Stepping:
    """Mixed into a loop: what it calls of crest's goes through something."""

    through: Through | None = None

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> Any:
        if self.through is not None and is_own(callback):
            return super().call_soon(self.through, callback, *args, context=context)  # type: ignore[misc]
        return super().call_soon(callback, *args, context=context)  # type: ignore[misc]

    def call_soon_threadsafe(self, callback: Any, *args: Any, context: Any = None) -> Any:
        if self.through is not None and is_own(callback):
            return super().call_soon_threadsafe(self.through, callback, *args, context=context)  # type: ignore[misc]
        return super().call_soon_threadsafe(callback, *args, context=context)  # type: ignore[misc]

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> Any:
        if self.through is not None and is_own(callback):
            return super().call_at(when, self.through, callback, *args, context=context)  # type: ignore[misc]
        return super().call_at(when, callback, *args, context=context)  # type: ignore[misc]

    def call_later(self, delay: float, callback: Any, *args: Any, context: Any = None) -> Any:
        if self.through is not None and is_own(callback):
            return super().call_later(delay, self.through, callback, *args, context=context)  # type: ignore[misc]
        return super().call_later(delay, callback, *args, context=context)  # type: ignore[misc]

    def add_reader(self, fd: Any, callback: Any, *args: Any) -> Any:
        if self.through is not None and is_own(callback):
            return super().add_reader(fd, self.through, callback, *args)  # type: ignore[misc]
        return super().add_reader(fd, callback, *args)  # type: ignore[misc]

    def run_in_executor(self, executor: Any, callback: Any, *args: Any) -> Any:
        if self.through is not None and is_own(callback):
            return super().run_in_executor(executor, self.through, callback, *args)  # type: ignore[misc]
        return super().run_in_executor(executor, callback, *args)  # type: ignore[misc]

    def create_task(self, coroutine: Any, **options: Any) -> Any:
        if self.through is not None and is_own_coroutine(coroutine):
            coroutine = Steps(self.through, coroutine)
        return super().create_task(coroutine, **options)  # type: ignore[misc]


class AsyncioLoop(Stepping, asyncio.SelectorEventLoop):
    pass


def loop_of(kind: str) -> Any:
    if kind == "asyncio":
        return AsyncioLoop()
    import uvloop

    return type("UvloopLoop", (Stepping, uvloop.Loop), {})()


class Stage(asyncio.BufferedProtocol):
    """Between the loop's own transport and a protocol: each event goes through something."""

    def __init__(self, through: Through, protocol: ServerProtocol) -> None:
        for name in ("connection_made", "get_buffer", "buffer_updated", "eof_received", "pause_writing",
                     "resume_writing", "connection_lost"):  # fmt: skip
            setattr(self, name, partial(through, getattr(protocol, name)))
