"""Everything on the loop is cancelled, as at the end of asyncio.run: clients are told that the server goes."""

import asyncio
from typing import Any

import pytest
from support.client import TEXT, Server, frame, upgraded
from support.events import Gate, on_each_loop, until

from crest import App, WebSocketServer


@pytest.mark.parametrize(("retry_after", "code"), [(2.0, 1012), (None, 1001)])
@on_each_loop
async def test_handlers_that_are_cancelled_with_the_server(retry_after: float | None, code: int) -> None:
    app, ws = App(retry_after=retry_after, close_rate=None), WebSocketServer()
    begun, listening = asyncio.Event(), asyncio.get_running_loop().create_future()

    @ws.on_message
    async def received(conn: Any, message: str) -> None:
        begun.set()
        await asyncio.Event().wait()

    async def serve() -> None:
        async with app.listening() as server:
            listening.set_result(server)
            await asyncio.Event().wait()

    serving = asyncio.create_task(serve())
    server: Server = await listening
    async with upgraded(server) as client:
        await client.send(frame(TEXT, "x"))
        await until(begun)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        (closing,) = await client.until_close()
        assert closing.code == code
    await asyncio.gather(serving, return_exceptions=True)
    assert serving.cancelled()


@on_each_loop
async def test_a_handler_that_is_cancelled_alone(caplog: pytest.LogCaptureFixture) -> None:
    """That is no end of the server: it counts as an exception of the handler's."""
    ws, gate = WebSocketServer(), Gate()
    tasks: list[Any] = []

    @ws.on_message
    async def received(conn: Any, message: str) -> None:
        tasks.append(asyncio.current_task())
        await gate.passed()

    async with App().listening() as server, upgraded(server) as client, upgraded(server) as other:
        await client.send(frame(TEXT, "x"))
        await gate.reached()
        tasks[0].cancel()
        (closing,) = await client.until_close()
        assert closing.code == 1011
        await other.round_trip()
