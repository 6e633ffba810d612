"""Tasks that take their first step when they are made, on every CPython: asyncio has them from 3.12 on."""

import asyncio
import os
import sys
import types
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from functools import wraps
from importlib.util import find_spec
from typing import Any

EVERYWHERE = os.environ.get("CREST_EAGER_TASKS") == "1"
"""Whether the tests run with no others: `make eager`."""


class _Done(asyncio.Future[Any]):
    def set_name(self, name: object) -> None:
        """Some versions of CPython name what a factory has made."""


def first_step_at_once(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], **_: object) -> Any:
    """Make what is like an eager task, also where the loop does not run: CPython's take no step there."""
    try:
        waited = work.send(None)
    except StopIteration as result:
        done = _Done(loop=loop)
        done.set_result(result.value)
        return done

    async def rest() -> Any:
        return await _resumed(work, waited)

    return asyncio.Task(rest(), loop=loop)


@types.coroutine
def _resumed(work: Coroutine[Any, Any, Any], waited: Any) -> Generator[Any, Any, Any]:
    """Go on with what waits."""
    while True:
        try:
            sent = yield waited
        except BaseException as error:
            step, value = work.throw, error
        else:
            step, value = work.send, sent
        try:
            waited = step(value)
        except StopIteration as result:
            return result.value


def _eager_task(
    loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], *, eager_start: bool | None = None, **options: Any
) -> asyncio.Task[Any]:
    """Make a task as `asyncio.eager_task_factory` does. uvloop passes `eager_start=None` for whatever was not said:
    some versions of that one do not know the argument, and others take None for no."""
    return asyncio.Task(work, loop=loop, eager_start=eager_start is not False, **options)


task_factory = _eager_task if sys.version_info >= (3, 12) else first_step_at_once


@contextmanager
def eager_tasks() -> Generator[None]:
    """Have the running loop make them."""
    loop = asyncio.get_running_loop()
    before = loop.get_task_factory()
    loop.set_task_factory(task_factory)
    try:
        yield
    finally:
        loop.set_task_factory(before)


def make_every_loop_eager() -> None:
    """Have each loop of this process make them from its beginning, asyncio's and uvloop's.

    Raises:
        RuntimeError: this CPython's asyncio has none.
    """
    if sys.version_info < (3, 12):
        raise RuntimeError("tasks that are eager everywhere need CPython 3.12 or newer")
    loops: list[type[Any]] = [asyncio.BaseEventLoop]
    if find_spec("uvloop") is not None:
        import uvloop

        loops.append(uvloop.Loop)
    for each in loops:
        each.__init__ = _with_eager_tasks(each.__init__)  # type: ignore[misc]


def _with_eager_tasks(init: Callable[..., None]) -> Callable[..., None]:
    @wraps(init)
    def made(self: asyncio.AbstractEventLoop, *args: Any, **options: Any) -> None:
        init(self, *args, **options)
        self.set_task_factory(task_factory)

    return made
