"""crest.listening.shutdown: pages and files that are on their way."""

import asyncio
from pathlib import Path

import pytest
from support.client import request, tcp
from support.events import KINDS, Events, Gate, of_kind, on_each_loop, turns, until
from support.shutdown import messages, never

from crest import App, Request


@on_each_loop
async def test_shutdown_waits_for_a_page_that_is_being_made() -> None:
    app, gate = App(), Gate()

    app.get("/")(gate.before(lambda request: "page"))
    async with app.listening() as server, tcp(server) as client:
        await client.send(request("/"))
        await gate.reached()
        stopping = asyncio.create_task(server.stop())
        await asyncio.sleep(0)
        gate.open()
        assert (await client.answer()).body == b"page"
        assert await client.eof() == b""
        await client.close()
        await stopping


@pytest.mark.parametrize("kind", KINDS)
@on_each_loop
async def test_a_client_that_leaves_behind_its_last_page_is_not_waited_for(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = App(shutdown_timeout=2)
    app.get("/")(of_kind(kind, lambda request: "page"))
    async with app.listening() as server:
        async with tcp(server) as client:
            await client.send(request("/", {"Host": "test", "Connection": "close"}))
            assert (await client.answer()).body == b"page"
            assert await client.eof() == b""
    assert [text for text in messages(caplog) if "cut off" in text] == []


@on_each_loop
async def test_after_shutdown_timeout_a_page_that_is_never_done_is_cancelled() -> None:
    app, begun, events = App(shutdown_timeout=0.1), asyncio.Event(), Events()

    @app.get("/")
    async def page(request: Request) -> str:
        begun.set()
        try:
            await never()
        finally:
            events.add("cancelled")
        return ""

    async with app.listening() as server, tcp(server) as client:
        await client.send(request("/"))
        await until(begun)
        await server.stop()
        assert events.seen == ["cancelled"]


@on_each_loop
async def test_a_page_that_is_done_during_the_shutdown_is_the_last_on_its_connection() -> None:
    app, gate = App(), Gate()

    app.get("/")(gate.before(lambda request: "page"))
    async with app.listening() as server, tcp(server) as client:
        await client.send(request("/"), request("/"))
        await gate.reached()
        stopping = asyncio.create_task(server.stop())
        await turns(2)
        gate.open()
        answer = await client.answer()
        assert (answer.body, answer.headers["connection"]) == (b"page", "close")
        assert await client.eof() == b""
        await client.close()
        await stopping


@on_each_loop
async def test_a_file_that_is_on_its_way_arrives_whole(tmp_path: Path) -> None:
    content = bytes(range(256)) * (1 << 15)
    (tmp_path / "large").write_bytes(content)
    app = App()
    app.static("/files", tmp_path)
    async with app.listening() as server, tcp(server, receive_buffer=4096) as client:
        await client.send(request("/files/large"))
        head = await client.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        stopping = asyncio.create_task(server.stop())
        await turns(3)
        assert not stopping.done()
        assert await client.eof() == content
        await client.close()
        await stopping
