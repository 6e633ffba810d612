"""docs/websocket.md: basic usage, broadcasting and handlers."""

import queue
import re
import sys
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from support.client import Server, connect
from support.snippets import Checks, Names, Stage, close_of, prelude

check = Checks()

# ---- Basics ----------------------------------------------------------------------------------------------------------


@check("websocket#basic-usage")
def basic_usage(stage: Stage) -> None:
    app = stage.execute()["app"]
    assert stage.runs == [(app, "0.0.0.0", 8000)]

    async def scenario(server: Server) -> None:
        async with connect(server) as one, connect(server) as other:
            assert await one.recv() == await other.recv() == '{"type":"welcome","message":"Connected!"}'
            await one.send("Hello")
            assert await one.recv() == await other.recv() == "Hello"

    stage.serve(app, scenario)
    output = stage.output()
    ids = re.findall(r"^Client connected: (\S+)$", output, re.MULTILINE)
    assert len(ids) == 2
    assert sorted(re.findall(r"^Client disconnected: (\S+)$", output, re.MULTILINE)) == sorted(ids)
    assert "Received: Hello\n" in output


def in_handler(stage: Stage, scenario: Callable[[Any], Awaitable[None]]) -> Names:
    """Run the snippet in `on_connect`, with its `conn`; the scenario gets the client."""
    names = prelude()
    names["ws"].on_connect(lambda conn: names.update(stage.execute({**names, "conn": conn})) or None)

    async def with_client(server: Server) -> None:
        async with connect(server) as client:
            await scenario(client)

    stage.serve(names["app"], with_client)
    return names


@check("websocket#send-messages")
def send_messages(stage: Stage) -> None:
    async def scenario(client: Any) -> None:
        assert await client.recv() == '{"type":"notification","text":"Hello!"}'
        assert await client.recv() == b"\x01\x02\x03"

    in_handler(stage, scenario)


@check("websocket#close-connection")
def close_connection(stage: Stage) -> None:
    async def scenario(client: Any) -> None:
        assert await close_of(client) == (1000, "Normal closure")

    in_handler(stage, scenario)


@check("websocket#check-connection-status")
def check_connection_status(stage: Stage) -> None:
    async def scenario(client: Any) -> None:
        assert await client.recv() == "Still connected!"

    conn = in_handler(stage, scenario)["conn"]
    conn = SimpleNamespace(is_open=conn.is_open, send=lambda text: pytest.fail("it is closed"))
    stage.execute({"conn": conn})


@check("websocket#broadcasting")
def broadcasting(stage: Stage) -> None:
    names = prelude()

    async def scenario(server: Server) -> None:
        async with connect(server) as one, connect(server) as other:
            stage.execute(names)
            for client in (one, other):
                assert await client.recv() == '{"type":"announcement","text":"Server message"}'
                assert await client.recv() == b"\xff\xfe"

    stage.serve(names["app"], scenario)


@check("websocket#broadcasting/2")
def broadcast_to_some(stage: Stage) -> None:
    async def scenario(server: Server) -> None:
        async with connect(server, "/ws?room=lobby") as lobby, connect(server, "/ws?room=cellar") as cellar:
            assert await lobby.recv() == "1 in the lobby"
            assert await cellar.recv() == "1 in the cellar"
            async with connect(server, "/ws?room=lobby") as second, connect(server, "/ws?room=attic"):
                assert await lobby.recv() == await second.recv() == "2 in the lobby"

    stage.serve(stage.fragment()["app"], scenario)


@check("websocket#broadcasting/3")
def broadcast_from_a_thread(stage: Stage) -> None:
    names = prelude()
    lines: queue.Queue[str | None] = queue.Queue()
    stage.monkeypatch.setattr(sys, "stdin", iter(lines.get, None))

    async def scenario(server: Server) -> None:
        async with connect(server) as client:
            stage.execute(names)
            lines.put("Dinner is ready\n")
            assert await client.recv() == "Dinner is ready"
            lines.put(None)

    stage.serve(names["app"], scenario)


# ---- Handlers --------------------------------------------------------------------------------------------------------


@check("websocket#on-connect")
def on_connect(stage: Stage) -> None:
    names = stage.fragment()

    async def scenario(server: Server) -> None:
        async with connect(server) as client:
            assert names["ws"].get_connections()[0].state.score == 0
            assert f"{client.local_address} asked for /ws\n" == stage.output()

    stage.serve(names["app"], scenario)


@check("websocket#on-message")
def on_message(stage: Stage) -> None:
    async def scenario(server: Server) -> None:
        async with connect(server) as client:
            await client.send(["in ", "three ", "fragments"])
            assert await client.recv() == "IN THREE FRAGMENTS"

    stage.serve(stage.fragment()["app"], scenario)


@check("websocket#on-binary")
def on_binary(stage: Stage) -> None:
    async def scenario(server: Server) -> None:
        async with connect(server) as client:
            await client.send(b"\x00\x01\x02")
            assert await client.recv() == b"\x02\x01\x00"
            await client.send("text")
            assert (await close_of(client))[0] == 1003

    stage.serve(stage.fragment()["app"], scenario)


@check("websocket#on-close")
def on_close(stage: Stage) -> None:
    async def scenario(server: Server) -> None:
        async with connect(server) as client:
            await client.close(4321, "enough")

    stage.serve(stage.fragment()["app"], scenario)
    assert re.fullmatch(r"\S+ has ended: 4321 enough\n", stage.output())


@check("websocket#on-error", logged=1)
def on_error(stage: Stage) -> None:
    names = stage.fragment()

    def failing(conn: Any, message: str) -> None:
        raise ZeroDivisionError("by " + message)

    names["ws"].on_message(failing)

    async def scenario(server: Server) -> None:
        async with connect(server) as client:
            await client.send("zero")
            assert await client.recv() == '{"type":"error","text":"Something went wrong here."}'
            output = stage.output()
            assert "ZeroDivisionError: by zero" in output and "failing" in output
            await client.send(b"binary")
            assert (await close_of(client))[0] == 1003
        assert "a binary message" in stage.output()

    stage.serve(names["app"], scenario)


@check("websocket#async-handlers")
def async_handlers(stage: Stage) -> None:
    async def scenario(server: Server) -> None:
        async with connect(server) as one, connect(server) as other:
            for client in (one, other):
                await client.send("password")
            keys = [str(await one.recv()), str(await other.recv())]
            assert all(re.fullmatch("[0-9a-f]{128}", key) for key in keys) and keys[0] != keys[1]

    stage.serve(stage.fragment()["app"], scenario)


test_snippet = check.test()
