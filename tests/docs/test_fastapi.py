"""docs/fastapi.md: each of its snippets, under uvicorn with crest's class."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from support.client import GUARD, connect, request, tcp
from support.snippets import Checks, Stage
from websockets.exceptions import InvalidStatus

check = Checks()


def serve(app: Any, scenario: Callable[[Any], Awaitable[None]]) -> None:
    """Play a scenario against an ASGI application."""
    from support.uvicorns import under_uvicorn

    async def main() -> None:
        async with asyncio.timeout(3 * GUARD), under_uvicorn(app, lifespan="auto") as server:
            await scenario(server)

    asyncio.run(main())


def needs(stage: Stage) -> dict[str, Any]:
    """Run the snippet, where FastAPI and uvicorn are installed."""
    for each in ("uvicorn", "fastapi"):
        pytest.importorskip(each, reason="needs the group `asgi`")
    return stage.execute()


@check("fastapi#the-engine-under-your-program")
def engine(stage: Stage) -> None:
    main = needs(stage)["main"]

    async def scenario(server: Any) -> None:
        async with connect(server) as client:
            await client.send("hello")
            assert await client.recv() == "hello"

    serve(main, scenario)


@check("fastapi#a-websocketserver-in-your-program")
def mounted(stage: Stage) -> None:
    main = needs(stage)["main"]

    async def scenario(server: Any) -> None:
        async with connect(server, "/ws/a") as one, connect(server, "/ws/a") as two, connect(server, "/ws/b") as three:
            await one.send("hello")
            assert await one.recv() == await two.recv() == "hello"
            await three.send("alone")
            assert await three.recv() == "alone"
            async with tcp(server) as client:
                await client.send(request("/count"))
                assert (await client.answer()).body == b"3"

    serve(main, scenario)


@check("fastapi#users")
def users(stage: Stage) -> None:
    ws = needs(stage)["ws"]
    ws.on_connect(lambda conn: conn.send(conn.user))

    async def scenario(server: Any) -> None:
        async with connect(server, subprotocols=["notifications", "token.9f2c"]) as client:
            assert client.subprotocol == "notifications"
            assert await client.recv() == "ann"
        with pytest.raises(InvalidStatus) as refused:
            await connect(server, subprotocols=["notifications", "token.0000"])
        assert refused.value.response.status_code == 401

    serve(ws, scenario)


@check("fastapi#notifications-from-a-route")
def notifications(stage: Stage) -> None:
    names = needs(stage)

    async def scenario(server: Any) -> None:
        headers = {"Cookie": "user=ann"}
        async with connect(server, "/notifications", additional_headers=headers) as phone:
            async with connect(server, "/notifications", additional_headers=headers) as tab, tcp(server) as client:
                await client.send(request("/orders/ann", method="POST"))
                assert (await client.answer()).body == b'{"connections":2}'
                assert await phone.recv() == await tab.recv() == "your order is on its way"

    serve(names["main"], scenario)


@check("fastapi#other-servers-and-tests")
def with_the_test_client(stage: Stage) -> None:
    pytest.importorskip("httpx2", reason="needs the group `asgi`")
    needs(stage)["test_everyone_is_told"]()


test_snippet = check.test()
