"""Answers that take time: no task, no memory, tasks that end at once, and cancellation."""

import asyncio
import inspect
from collections.abc import Coroutine
from typing import Any

import pytest
from support.eager import eager_tasks

from crest.opening.answer import Answer


async def wait(steps: list[str], gate: asyncio.Event) -> None:
    steps.append("begun")
    try:
        await gate.wait()
    finally:
        steps.append("ended")


@pytest.mark.parametrize("eager", [False, True])
def test_it_is_made_by_a_task(eager: bool) -> None:
    async def story() -> list[str]:
        steps: list[str] = []
        gate = asyncio.Event()
        gate.set()
        answer = Answer(asyncio.get_running_loop())
        if eager:
            with eager_tasks():
                answer.begin(wait(steps, gate))
        else:
            answer.begin(wait(steps, gate))
        while "ended" not in steps:
            await asyncio.sleep(0)
        answer.cancel()  # too late, and no harm
        return steps

    assert asyncio.run(story()) == ["begun", "ended"]


def test_it_is_cancelled_behind_its_first_step() -> None:
    async def story() -> list[str]:
        steps: list[str] = []
        answer = Answer(asyncio.get_running_loop())
        answer.begin(wait(steps, asyncio.Event()))
        answer.cancel()
        while "ended" not in steps:
            await asyncio.sleep(0)
        return steps

    assert asyncio.run(story()) == ["begun", "ended"]


def test_without_a_task_nothing_waits_to_be_awaited() -> None:
    async def story() -> list[Coroutine[Any, Any, None]]:
        def fail(loop: Any, work: Any, **options: Any) -> Any:
            raise MemoryError("no task")

        loop = asyncio.get_running_loop()
        works = [wait([], asyncio.Event()) for _ in range(2)]
        answer = Answer(loop)
        loop.set_task_factory(fail)
        try:
            with pytest.raises(MemoryError, match="no task"):
                answer.begin(works[0], works[1], None, loop.create_future())
        finally:
            loop.set_task_factory(None)
        answer.cancel()
        return works

    for work in asyncio.run(story()):
        assert inspect.getcoroutinestate(work) == inspect.CORO_CLOSED
