"""Tasks that take their first step when they are made, on every CPython: asyncio has them from 3.12 on."""

import asyncio
import types
from collections.abc import Coroutine, Generator
from contextlib import contextmanager
from typing import Any


class _Done(asyncio.Future[Any]):
    def set_name(self, name: object) -> None:
        """Some versions of CPython name what a factory has made."""


def _eager(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], **_: object) -> Any:
    try:
        waited = work.send(None)
    except StopIteration as result:
        done = _Done(loop=loop)
        done.set_result(result.value)
        return done
    return asyncio.Task(_resumed(work, waited), loop=loop)


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


task_factory = getattr(asyncio, "eager_task_factory", _eager)


@contextmanager
def eager_tasks() -> Generator[None]:
    """Have the running loop make them."""
    loop = asyncio.get_running_loop()
    loop.set_task_factory(task_factory)
    try:
        yield
    finally:
        loop.set_task_factory(None)
