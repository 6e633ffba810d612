"""max_backlog_total and what comes in, over real sockets: it is one bound for all that peers make the server keep."""

import asyncio
import gc
import logging
import socket
import tracemalloc
import zlib
from contextlib import AsyncExitStack

import pytest
from support.certificates import Pair
from support.client import BINARY, CLOSE, TEXT, Client, Frame, frame, handshake, request, tcp, upgraded
from support.events import Events, Gate, on_each_loop, turns

from crest import App, Request, WebSocketConnection, WebSocketServer
from crest.listening.listener import Listener

TOTAL = 8_000_000
"""Bytes."""

MESSAGE = "😀" + "x" * 999_996
"""A million bytes of UTF-8, and four of memory."""


def bombs(count: int) -> bytes:
    """So many messages of four million bytes of memory, a thousand each on the wire."""
    stream = zlib.compressobj(wbits=-15)
    payload = (stream.compress(MESSAGE.encode()) + stream.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\0\0\xff\xff")
    return frame(TEXT, payload, rsv=4) * count


def used(server: Listener) -> int:
    return server.turn.budget.used


@on_each_loop
async def test_twenty_clients_with_a_few_bytes_each_are_bounded(direct: bool, caplog: pytest.LogCaptureFixture) -> None:
    """Seventeen kilobytes of each were sixty-four megabytes. Who sends little meanwhile is served."""
    ws, gate, codes = WebSocketServer(compression="deflate", close_timeout=60), Gate(), Events()

    @ws.on_message
    async def received(conn: WebSocketConnection, message: str) -> None:
        if message.startswith("echo"):
            conn.send(message)
        else:
            await gate.passed()

    ws.on_error(lambda conn, error: codes.add(str(error)))
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(App(max_backlog_total=TOTAL).listening(direct=direct))
        reader = await stack.enter_async_context(upgraded(server))
        clients = [await stack.enter_async_context(tcp(server)) for _ in range(20)]
        offer = {"Sec-WebSocket-Extensions": "permessage-deflate"}
        for client in clients:
            await client.upgrade(changed=offer)
        data = bombs(17)
        assert len(data) < 20_000
        gc.collect()
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            for number, client in enumerate(clients):
                await client.send(data)
                await turns(20)
                text = f"echo {number}"
                await reader.send(frame(TEXT, text))
                assert await reader.frame() == Frame(TEXT, text.encode())
                assert used(server) <= TOTAL + 2 * 4_000_200, "one message more for each client that is read in a turn"
            grown = tracemalloc.get_traced_memory()[1] - before
        finally:
            tracemalloc.stop()
        # The first message of each is its handler's; and one is inflated at a time.
        assert grown < TOTAL + 20 * 4_000_200 + 4 * 4_000_200
        gate.open()
        seen = await codes.reach(1)
        assert all(each.startswith("too much of the peer's waits to be handled: ") for each in seen)
    assert any("max_backlog_total is 8000000" in record.getMessage() for record in caplog.records)


@on_each_loop
async def test_messages_that_never_end(direct: bool) -> None:
    ws, codes = WebSocketServer(), Events()
    ws.on_close(lambda conn, code, reason: codes.add(code))
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(App(max_backlog_total=TOTAL).listening(direct=direct))
        for _ in range(20):
            client = await stack.enter_async_context(upgraded(server))
            await client.send(frame(BINARY, bytes(900_000), fin=False))
            await client.send(frame(9, b"?"))
            if (await client.frame()).opcode == CLOSE:
                break
        assert used(server) <= TOTAL
        assert (await codes.reach(1))[0] == 1013
        assert ws.connection_count() > 4


@on_each_loop
async def test_requests_behind_one_that_is_decided_about(direct: bool) -> None:
    """What a client sends while on_upgrade thinks is kept; the one with most of it gets 503."""
    ws, gate = WebSocketServer(), Gate()

    @ws.on_upgrade
    async def decide(request: Request) -> None:
        await gate.passed()

    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(App(max_backlog_total=100_000).listening(direct=direct))
        clients = [await stack.enter_async_context(tcp(server)) for _ in range(3)]
        for client, size in zip(clients, (30_000, 60_000, 30_000), strict=True):
            before = used(server)
            await client.send(handshake() + bytes(size))
            async with asyncio.timeout(10):
                while used(server) < before + size and before + size < 100_000:
                    await asyncio.sleep(0)
        answer = await clients[1].answer()
        assert answer.status == 503 and b"max_backlog_total, 100000 bytes" in answer.body
        assert ws.refused == {"memory": 1}
        assert used(server) == 60_000
        gate.open()
        for client in (clients[0], clients[2]):
            assert (await client.answer()).status == 101
        for client in clients:
            client.reset()


@on_each_loop
async def test_heads_that_do_not_end(direct: bool) -> None:
    async with AsyncExitStack() as stack:
        app = App(max_backlog_total=100_000, max_header_size=50_000)
        server = await stack.enter_async_context(app.listening(direct=direct))
        clients = [await stack.enter_async_context(tcp(server)) for _ in range(4)]
        head = request("/" + "x" * 30_000)
        for client in clients[:3]:
            before = used(server)
            await client.send(head[:-2])
            async with asyncio.timeout(10):
                while used(server) == before:
                    await asyncio.sleep(0)
        assert 90_000 < used(server) <= 100_000
        await clients[3].send(head[:-2])
        async with asyncio.timeout(10):
            while used(server) <= 100_000:
                await asyncio.sleep(0)
            while used(server) > 100_000:
                await asyncio.sleep(0)
        refused = 0
        for client in clients:
            await client.send(b"\r\n")
            refused += (await client.answer()).status == 503
        assert refused == 1
        assert used(server) == 0


@pytest.mark.parametrize("last", [True, False])
@on_each_loop
async def test_responses_that_are_not_taken(last: bool, direct: bool, caplog: pytest.LogCaptureFixture) -> None:
    """The client with the greatest is cut off. Behind a connection's last response there is no opening any more."""
    app = App(max_backlog_total=3_000_000)
    app.get("/large")(lambda request: bytes(int(request.query["size"])))
    headers = {"Host": "localhost", **({"Connection": "close"} if last else {})}
    caplog.set_level(logging.INFO, "crest")
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(app.listening(direct=direct))
        for each in server.sockets:  # accepted ones inherit it; else the kernel may take all of a response
            with socket.fromfd(each.fileno(), each.family, each.type) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
        clients = [await stack.enter_async_context(tcp(server, receive_buffer=4096)) for _ in range(2)]
        for client in clients:
            client.stop_reading()
        await clients[0].send(request("/large?size=9000000", headers))
        async with asyncio.timeout(10):
            while not used(server) and not caplog.records[-1].getMessage().startswith("Messages"):
                await asyncio.sleep(0)
            while used(server):
                await asyncio.sleep(0)
        clients[0].read_on()
        assert len(await clients[0].eof()) < 9_000_000
        await clients[1].send(request("/large?size=2900000", headers))
        async with asyncio.timeout(10):
            while not used(server):
                await asyncio.sleep(0)
        clients[1].read_on()
        assert len((await clients[1].answer()).body) == 2_900_000
        async with asyncio.timeout(10):
            while used(server):
                await asyncio.sleep(0)


@on_each_loop
async def test_over_tls(pair: Pair, direct: bool) -> None:
    ws, gate, codes = WebSocketServer(compression="deflate"), Gate(), Events()

    @ws.on_message
    async def received(conn: WebSocketConnection, message: str) -> None:
        await gate.passed()

    ws.on_close(lambda conn, code, reason: codes.add(code))
    app = App(max_backlog_total=TOTAL)
    listening = app.listening(certfile=pair.certfile, keyfile=pair.keyfile, direct=direct)
    async with listening as server, tcp(server, tls=pair.client()) as client:
        await client.upgrade(changed={"Sec-WebSocket-Extensions": "permessage-deflate"})
        await client.send(bombs(10))
        close = await _until_close(client)
        assert close.code == 1013
        gate.open()
        assert await codes.reach(1) == [1013]
        assert used(server) == 0


async def _until_close(client: Client) -> Frame:
    *_, close = await client.until_close()
    return close
