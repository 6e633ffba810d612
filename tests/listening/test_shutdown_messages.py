"""crest.listening.shutdown: no message is lost."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from support.certificates import Pair
from support.client import TEXT, close_frame, connect, frame, upgraded
from support.events import KINDS, Events, Gate, of_kind, on_each_loop
from websockets.exceptions import ConnectionClosed

from crest import App, Deflate, WebSocketConnection, WebSocketServer
from crest.listening.listener import Listener


@on_each_loop
async def test_messages_that_wait_or_still_come_are_handled_before_the_end(direct: bool) -> None:
    """Those in the queue, those in the socket behind a full queue, and those of a client that has not heard of it."""
    ws, events, gate = WebSocketServer(max_queue=2), Events(), Gate()

    ws.on_message(gate.before(lambda conn, message: events.add(message)))
    ws.on_close(lambda conn, code, reason: events.add(code))
    async with App().listening(direct=direct) as server:
        async with upgraded(server) as client:
            await client.send(*[frame(TEXT, str(i)) for i in range(10)])
            await gate.reached()
            stopping = asyncio.create_task(server.stop())
            assert (await client.frame()).code == 1012
            await client.send(frame(TEXT, "10"), frame(TEXT, "11"), close_frame(1012))
            gate.open()
            assert await client.eof() == b""
        await stopping
    assert events.seen == [str(i) for i in range(12)] + [1012]


@pytest.mark.parametrize("kind", KINDS)
@on_each_loop
async def test_what_was_sent_goes_out_before_the_close_frame(kind: str) -> None:
    ws = WebSocketServer()

    @ws.on_message
    @lambda function: of_kind(kind, function)
    def received(conn: WebSocketConnection, message: str) -> None:
        asyncio.get_running_loop().create_task(server.stop())
        for i in range(3):
            conn.send(str(i))
            ws.broadcast(str(i))

    async with App().listening() as server, upgraded(server) as client, upgraded(server) as other:
        await client.send(frame(TEXT, "x"))
        assert [each.payload for each in (await client.until_close())[:-1]] == [b"0", b"0", b"1", b"1", b"2", b"2"]
        assert [each.payload for each in (await other.until_close())[:-1]] == [b"0", b"1", b"2"]
        for each in (client, other):
            await each.send(close_frame(1012))


class Talker:
    """A client of the `websockets` library that talks all the time, and what became of it."""

    def __init__(self) -> None:
        self.sent = 0  # each message was taken by the library before it had heard of the end
        self.answers: list[str] = []
        self.code: int | None = None

    async def talk(self, server: Listener, name: int, well_begun: Events) -> None:
        async with connect(server, f"/ws?{name}") as client:
            listening = asyncio.create_task(self.listen(client, well_begun))
            with suppress(ConnectionClosed):
                while True:
                    await client.send(str(self.sent))
                    self.sent += 1
                    await asyncio.sleep(0)
            await listening
            self.code = client.close_code

    async def listen(self, client: Any, well_begun: Events) -> None:
        with suppress(ConnectionClosed):
            async for message in client:
                self.answers.append(message)
                if len(self.answers) == 5:
                    well_begun.add(self)


@pytest.mark.parametrize("kind", KINDS)
@on_each_loop
async def test_under_load_both_sides_know_of_every_message(kind: str, direct: bool) -> None:
    """Whatever a client had sent before it heard of the end was handled, once and in order; whatever the server had
    accepted to send was received; and both know the code."""
    ws, well_begun = WebSocketServer(), Events()
    handled: dict[str, list[str]] = {}
    accepted: dict[str, list[str]] = {}
    closed: dict[str, list[int]] = {}

    @ws.on_message
    @lambda function: of_kind(kind, function)
    def received(conn: WebSocketConnection, message: str) -> None:
        name = conn.request.query_string
        handled.setdefault(name, []).append(message)
        if conn.send(message):
            accepted.setdefault(name, []).append(message)

    ws.on_close(lambda conn, code, reason: closed.setdefault(conn.request.query_string, []).append(code))
    talkers = [Talker() for _ in range(30)]
    async with App(close_rate=200).listening(direct=direct) as server:
        tasks = [asyncio.create_task(each.talk(server, i, well_begun)) for i, each in enumerate(talkers)]
        await well_begun.reach(len(talkers))
    await asyncio.gather(*tasks)
    for i, talker in enumerate(talkers):
        name = str(i)
        assert handled[name] == [str(number) for number in range(talker.sent)]
        assert accepted[name] == talker.answers
        assert closed[name] == [talker.code] == [1012]


@on_each_loop
async def test_shutdown_waits_for_what_was_sent() -> None:
    ws, opened = WebSocketServer(max_backlog=1 << 26), Events()
    ws.on_connect(opened.add)
    async with App().listening() as server:
        async with connect(server, max_size=None) as client:
            (conn,) = await opened.reach(1)
            conn.send("x" * (1 << 24))
            stopping = asyncio.create_task(server.stop())
            assert len(await client.recv()) == 1 << 24
            await client.wait_closed()
            assert client.close_code == 1012
        await stopping


@pytest.mark.parametrize("takeover", [False, True])
@on_each_loop
async def test_everything_at_once(pair: Pair, takeover: bool) -> None:
    """TLS, compression, threads and keys, and the end in the middle of it: all get what they may get, and 1012."""
    deflate = Deflate(server_no_context_takeover=not takeover)
    ws, opened = WebSocketServer(on_backlog="latest", fanout_threads=2, compression=deflate), Events()
    ws.on_connect(opened.add)
    got: list[list[str]] = [[] for _ in range(20)]

    async def read(client: Any, into: list[str]) -> int:
        try:
            while True:
                into.append(await client.recv())
        except ConnectionClosed as closed:
            assert closed.rcvd is not None
            return closed.rcvd.code

    async with App().listening(certfile=pair.certfile, keyfile=pair.keyfile) as server:
        offers = ["deflate" if i % 3 else None for i in range(len(got))]
        clients = [await connect(server, ssl=pair.client(), compression=offer) for offer in offers]
        await opened.reach(len(clients))
        reading = [asyncio.create_task(read(*each)) for each in zip(clients, got, strict=True)]
        for i in range(200):
            ws.broadcast(f"{i} " + "state of things " * 500, key=i % 3)
            for conn in ws.get_connections()[::5]:
                conn.send(f"own {i} " + "mine " * 50)
            if i % 10 == 0:
                await asyncio.sleep(0)
    assert await asyncio.gather(*reading) == [1012] * len(clients)
    for texts in got:
        states = [int(each.split()[0]) for each in texts if not each.startswith("own")]
        assert states == sorted(set(states))
        assert states[-3:] == [197, 198, 199]
        own = [int(each.split()[1]) for each in texts if each.startswith("own")]
        assert own in ([], list(range(200)))
