"""crest.server: compression, from the opening handshake to the messages, over real sockets with others' clients."""

import asyncio
import functools
import inspect
import random
import threading
import zlib
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import websockets
from support.browser import browsing, require_browser
from support.certificates import Pair
from support.client import BINARY, CLOSE, TEXT, Client, connect, frame, tcp, upgraded
from support.events import KINDS, Events, of_kind, on_each_loop
from tornado.websocket import websocket_connect
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

from crest import App, Deflate, WebSocketConnection, WebSocketServer

LONG = '{"type": "move", "who": "Alice", "from": [1, 2], "to": [3, 4]}, ' * 10
DEFAULT = "permessage-deflate; client_no_context_takeover"
OFFER = {"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits"}


def compressed(data: bytes) -> bytes:
    """The payload of a client's message."""
    stream = zlib.compressobj(wbits=-15)
    return (stream.compress(data) + stream.flush(zlib.Z_SYNC_FLUSH))[:-4]


def inflated(payload: bytes) -> str:
    return zlib.decompressobj(-15).decompress(payload + b"\x00\x00\xff\xff").decode()


def echo(**options: Any) -> WebSocketServer:
    """A server that sends back what it gets, and broadcasts it: each client gets its own messages twice."""
    ws = WebSocketServer(**options)

    @ws.on_message
    def received(conn: WebSocketConnection, message: str) -> None:
        conn.send(message)
        ws.broadcast(message)

    @ws.on_binary
    def received_binary(conn: WebSocketConnection, data: bytes) -> None:
        conn.send_binary(data)
        ws.broadcast_binary(data)

    return ws


# ---- Switching it on -------------------------------------------------------------------------------------------------


@on_each_loop
async def test_off_by_default() -> None:
    ws, opened = WebSocketServer(), Events()
    ws.on_connect(opened.add)
    async with App().listening() as server, upgraded(server, changed=OFFER) as client:
        (conn,) = await opened.reach(1)
        assert not client.compresses
        assert conn.compression is None
        conn.send(LONG)
        assert (await client.frame()).payload == LONG.encode()


@pytest.mark.parametrize("compression", ["deflate", Deflate()])
@on_each_loop
async def test_on(compression: Any, direct: bool) -> None:
    ws, opened = WebSocketServer(compression=compression), Events()
    ws.on_connect(opened.add)
    async with App().listening(direct=direct) as server, upgraded(server, changed=OFFER) as client:
        (conn,) = await opened.reach(1)
        assert conn.compression == DEFAULT
        conn.send(LONG)
        conn.send_binary(LONG.encode())
        first, second = await client.frame(), await client.frame()
        assert (first.opcode, second.opcode, first.rsv1, second.rsv1) == (TEXT, BINARY, True, True)
        assert inflated(first.payload) == inflated(second.payload) == LONG
        async with upgraded(server) as plain:
            conn = (await opened.reach(2))[-1]
            assert conn.compression is None
            conn.send(LONG)
            assert (await plain.frame()).payload == LONG.encode()
            with pytest.raises(AttributeError):
                conn.compression = "permessage-deflate"


@pytest.mark.parametrize("wrong", ["gzip", "", "Deflate"])
def test_words_that_are_none(wrong: Any) -> None:
    with pytest.raises(ValueError, match="compression must be 'deflate', a Deflate or None, not"):
        WebSocketServer(compression=wrong)


@pytest.mark.parametrize("wrong", [True, 15, Deflate, b"deflate"])
def test_values_that_are_none(wrong: Any) -> None:
    with pytest.raises(TypeError, match="compression must be 'deflate', a Deflate or None, not"):
        WebSocketServer(compression=wrong)


@pytest.mark.parametrize("kind", KINDS)
@on_each_loop
async def test_admission_comes_in_between(kind: str) -> None:
    ws, opened = WebSocketServer(compression="deflate"), Events()
    ws.on_upgrade(of_kind(kind, lambda request: "Alice"))
    ws.on_connect(opened.add)
    async with App().listening() as server, upgraded(server, changed=OFFER):
        (conn,) = await opened.reach(1)
        assert (conn.user, conn.compression) == ("Alice", DEFAULT)


@on_each_loop
async def test_a_malformed_offer_fails_the_handshake_and_one_that_can_not_be_met_is_declined() -> None:
    WebSocketServer(compression="deflate")
    name = "Sec-WebSocket-Extensions"
    async with App().listening() as server:
        async with upgraded(server, changed={name: "permessage-deflate; server_max_window_bits=8"}) as client:
            assert not client.compresses
        with pytest.raises(AssertionError, match="status=400"):
            async with upgraded(server, changed={name: "permessage-deflate; ;"}):
                pass


# ---- What other clients make of it -----------------------------------------------------------------------------------

SERVERS = [
    Deflate(),
    Deflate(server_no_context_takeover=False, client_no_context_takeover=False, threshold=0, memory_level=1, level=1),
    Deflate(server_no_context_takeover=False, server_max_window_bits=9, client_max_window_bits=9, level=9),
    Deflate(client_no_context_takeover=False, server_max_window_bits=12, client_max_window_bits=15, memory_level=9),
]
CLIENTS = [
    {
        "server_no_context_takeover": server,
        "client_no_context_takeover": client,
        "server_max_window_bits": server_bits,
        "client_max_window_bits": client_bits,
    }
    for server, client, server_bits, client_bits in product(
        [False, True], [False, True], [None, 9, 15], [None, True, 10]
    )
]


@pytest.mark.parametrize("number", range(len(SERVERS)))
@on_each_loop
async def test_parameters_of_websockets(number: int, direct: bool) -> None:
    """Reconnects with all that its client can offer, each behind the other, while one connection stays."""
    echo(compression=SERVERS[number])
    rng = random.Random(number)
    texts = [LONG, "short", LONG[5:], "", rng.randbytes(50_000).hex(), LONG * 50]
    agreed = set()
    async with App().listening(direct=direct) as server, connect(server, compression="deflate", max_size=None) as other:
        for offer in CLIENTS:
            factory = ClientPerMessageDeflateFactory(**offer)
            async with connect(server, compression=None, extensions=[factory], max_size=None) as client:
                assert client.response is not None
                agreed.add(client.response.headers.get("Sec-WebSocket-Extensions"))
                for text in texts:
                    await client.send(text)
                    assert [await client.recv(), await client.recv()] == [text, text]
                    assert await other.recv() == text
                await client.send(LONG.encode())
                assert [await client.recv(), await client.recv()] == [LONG.encode()] * 2
                await other.recv()
        await other.send(LONG)
        assert [await other.recv(), await other.recv()] == [LONG, LONG]
    assert len(agreed) > 2


def test_a_browser() -> None:
    """Chromium offers client_max_window_bits, and takes over its context unless it is told not to."""
    require_browser()
    script = """new Promise((resolve) => {
        const ws = new WebSocket("ws://" + location.host + "/ws"), texts = %d, got = [];
        ws.onopen = () => { for (let i = 0; i < texts; i++) ws.send(i + " " + "äöü spam ".repeat(1000)); };
        ws.onmessage = (event) => {
            got.push(event.data);
            if (got.length === 2 * texts) resolve([ws.extensions, got.map((text) => text.length), got[1].slice(0, 11)]);
        };
        ws.onclose = (event) => resolve([event.code, event.reason]);
    })"""

    async def scenario(options: Deflate) -> list[Any]:
        app = App()
        echo(compression=options)
        app.get("/")(lambda request: "<!doctype html><title>compression</title>")
        async with app.listening() as server, browsing() as browser:
            page = await browser.open(f"http://127.0.0.1:{server.port}/")
            found = await page.evaluate(script % 3)
            assert isinstance(found, list)
            return found

    async def both() -> None:
        extensions, sizes, first = await scenario(Deflate(client_max_window_bits=10))
        assert extensions == DEFAULT + "; client_max_window_bits=10"
        assert (sizes, first) == ([9002] * 6, "0 äöü spam ")
        options = Deflate(server_no_context_takeover=False, client_no_context_takeover=False)
        extensions, sizes, first = await scenario(options)
        assert extensions == "permessage-deflate"
        assert (sizes, first) == ([9002] * 6, "0 äöü spam ")

    asyncio.run(both())


# ---- Clients that overlook or refuse what they did not offer ---------------------------------------------------------

TAKES_OVER = Deflate(client_no_context_takeover=False, threshold=0)
"""What docs/compression.md recommends for them."""


async def tornado_says(server: Any, texts: list[str]) -> list[Any]:
    """What Tornado's client gets for each text that it sends, twice; at last the close code, if there is one."""
    url = f"ws://127.0.0.1:{server.port}/ws"
    client = await websocket_connect(url, compression_options={})
    got: list[Any] = []
    try:
        for text in texts:
            await client.write_message(text)
            for _ in range(2):
                message = await client.read_message()
                if message is None:
                    return [*got, client.close_code]
                got.append(message)
        return got
    finally:
        client.close()


@on_each_loop
async def test_tornado() -> None:
    """It reads parameters with a value only (6.6), so that it overlooks client_no_context_takeover."""
    texts = [LONG, "short", LONG, LONG[5:], LONG * 50, ""]
    echo(compression=TAKES_OVER)
    async with App().listening() as server:
        assert await tornado_says(server, texts) == [text for text in texts for _ in range(2)]
    echo(compression=Deflate(server_max_window_bits=9, client_max_window_bits=10, client_no_context_takeover=False))
    async with App().listening() as server:
        assert await tornado_says(server, texts) == [text for text in texts for _ in range(2)]


@on_each_loop
async def test_tornado_with_the_defaults() -> None:
    """The second message refers to the first: it fails, and on_error says why."""
    ws, errors = echo(compression="deflate"), Events()
    ws.on_error(lambda conn, error: errors.add(str(error)))
    async with App().listening() as server:
        assert await tornado_says(server, [LONG, LONG]) == [LONG, LONG, 1007]
    assert errors.seen[0].endswith("does the client ignore client_no_context_takeover?")


@pytest.mark.parametrize("offer", ["permessage-deflate", "permessage-deflate; client_max_window_bits"])
@on_each_loop
async def test_clients_that_know_no_parameter(offer: str, direct: bool) -> None:
    """Mojolicious looks for the name alone, and Netty's handler refuses what it did not offer."""
    echo(compression=TAKES_OVER)
    deflating, inflating = zlib.compressobj(wbits=-15), zlib.decompressobj(-15)
    async with App().listening(direct=direct) as server, tcp(server) as client:
        answer = await client.upgrade(changed={"Sec-WebSocket-Extensions": offer})
        assert answer.headers["sec-websocket-extensions"] == "permessage-deflate"
        for text in [LONG, "short", LONG, LONG * 20]:
            payload = (deflating.compress(text.encode()) + deflating.flush(zlib.Z_SYNC_FLUSH))[:-4]
            await client.send(frame(TEXT, payload, rsv=4))
            for _ in range(2):
                got = await client.frame()
                data = inflating.decompress(got.payload + b"\0\0\xff\xff") if got.rsv1 else got.payload
                assert data.decode() == text
        await client.close()


# ---- Ways to connect -------------------------------------------------------------------------------------------------


@on_each_loop
async def test_over_tls(pair: Pair) -> None:
    echo(compression=Deflate(server_no_context_takeover=False))
    async with App().listening(certfile=pair.certfile, keyfile=pair.keyfile) as server:
        async with connect(server, compression="deflate", ssl=pair.client()) as client:
            for text in (LONG, LONG, LONG * 1000):
                await client.send(text)
                assert [await client.recv(), await client.recv()] == [text, text]


@on_each_loop
async def test_over_a_unix_socket(tmp_path: Path, direct: bool) -> None:
    echo(compression="deflate")
    path = tmp_path / "crest.sock"
    async with App().listening(unix=path, direct=direct):
        client = Client(*await asyncio.open_unix_connection(str(path)))
        await client.upgrade(changed=OFFER)
        await client.send(frame(TEXT, compressed(LONG.encode()), rsv=4))
        for _ in range(2):
            got = await client.frame()
            assert got.rsv1
            assert inflated(got.payload) == LONG
        await client.close()


# ---- Choosing for a message ------------------------------------------------------------------------------------------


@on_each_loop
async def test_messages_that_are_not_to_be_compressed(direct: bool) -> None:
    ws, opened = WebSocketServer(compression="deflate"), Events()
    ws.on_connect(opened.add)
    async with App().listening(direct=direct) as server, upgraded(server, changed=OFFER) as client:
        (conn,) = await opened.reach(1)

        def send_all() -> None:
            assert conn.send(LONG, compress=False)
            assert conn.send_binary(LONG.encode(), compress=False)
            ws.broadcast(LONG, compress=False)
            ws.broadcast_binary(LONG.encode(), compress=False)
            assert conn.send(LONG, compress=True)
            ws.broadcast(LONG, compress=True)

        for _ in range(2):
            send_all()
            frames = [await client.frame() for _ in range(6)]
            assert [each.rsv1 for each in frames] == [False, False, False, False, True, True]
            assert [each.opcode for each in frames] == [TEXT, BINARY, TEXT, BINARY, TEXT, TEXT]
            thread = threading.Thread(target=send_all)
            thread.start()
            frames = [await client.frame() for _ in range(6)]
            thread.join()
            assert [each.rsv1 for each in frames] == [False, False, False, False, True, True]


@on_each_loop
async def test_ways_to_call_send() -> None:
    ws, opened = WebSocketServer(compression="deflate"), Events()
    ws.on_connect(opened.add)
    async with App().listening() as server, upgraded(server, changed=OFFER) as client:
        (conn,) = await opened.reach(1)
        bound = conn.send
        for send in (
            bound,
            functools.partial(bound, compress=True),
            lambda text: WebSocketConnection.send(conn, text),
            lambda text: conn.send(*[text], compress=1),
        ):
            assert send(LONG) is True
            assert (await client.frame()).rsv1
        assert functools.partial(conn.send_binary, compress=False)(bytearray(LONG, "ascii")) is True
        assert not (await client.frame()).rsv1
        for wrong in (
            lambda: conn.send("a", False),
            lambda: conn.send("a", compressed=True),
            lambda: conn.send(b"", compress=False),
            lambda: conn.send_binary(b"", b""),
            lambda: conn.send_binary("", compress=False),
            lambda: WebSocketConnection.send(None, "a"),
            lambda: ws.broadcast("a", False),
            lambda: ws.broadcast_binary(b"a", False),
        ):
            with pytest.raises(TypeError):
                wrong()
        for method in (WebSocketConnection.send, WebSocketConnection.send_binary):
            assert str(inspect.signature(method)).endswith(", /, *, key=None, compress=True)")
            assert method.__doc__ is not None and "Returns:" in method.__doc__


# ---- What an attacker would send -------------------------------------------------------------------------------------


@pytest.mark.parametrize("takeover", [False, True])
@on_each_loop
async def test_a_bomb_is_stopped_at_the_limit(takeover: bool, direct: bool) -> None:
    ws = WebSocketServer(max_message_size=1 << 16, compression=Deflate(client_no_context_takeover=not takeover))
    events = Events()
    ws.on_message(lambda conn, message: events.add("message", len(message)))
    ws.on_error(lambda conn, error: events.add("error", str(error)))
    ws.on_close(lambda conn, code, reason: events.add("close", code))
    async with App().listening(direct=direct) as server, upgraded(server, changed=OFFER) as client:
        await client.send(frame(TEXT, compressed(b"a" * (1 << 16)), rsv=4))
        await client.send(frame(TEXT, compressed(b"a" * (1 << 26)), rsv=4))
        close = (await client.until_close())[-1]
        assert (close.opcode, close.code) == (CLOSE, 1009)
        assert events.seen[:2] == [
            ("message", 1 << 16),
            ("error", "frame 2: a message of 65537 bytes or more is over max_message_size, 65536"),
        ]
        assert (await events.reach(3))[2] == ("close", 1009)


@on_each_loop
async def test_compressed_data_that_is_none_closes_one_connection() -> None:
    ws = echo(compression="deflate")
    ws.on_error(lambda conn, error: None)
    async with App().listening() as server, connect(server, compression="deflate") as other:
        async with upgraded(server, changed=OFFER) as client:
            await client.send(frame(TEXT, b"\xff\xff\xff", rsv=4))
            assert (await client.until_close())[-1].code == 1007
        await other.send(LONG)
        assert await other.recv() == LONG


# ---- Many ------------------------------------------------------------------------------------------------------------


@on_each_loop
async def test_broadcasts_to_all_kinds_of_clients_at_once(direct: bool) -> None:
    """With other messages in between, a broadcast larger than the kernel takes at once, and one from another thread."""
    ws, opened = WebSocketServer(compression=Deflate(server_no_context_takeover=False), max_backlog=1 << 26), Events()
    ws.on_connect(opened.add)
    rng = random.Random(7)
    texts = [LONG, "short", rng.randbytes(500_000).hex(), LONG * 3, LONG]
    offers: list[dict[str, Any]] = [
        {"compression": None}, {"compression": "deflate"},
        {"compression": None, "extensions": [ClientPerMessageDeflateFactory(server_max_window_bits=10)]},
        {"compression": None, "extensions": [ClientPerMessageDeflateFactory(server_no_context_takeover=True)]},
    ]  # fmt: skip
    async with App().listening(direct=direct) as server:
        clients: list[websockets.ClientConnection] = []
        for offer in offers:
            clients.append(await connect(server, max_size=None, **offer))
        conns = await opened.reach(4)
        assert ws.connection_count() == 4
        assert set(ws.get_connections()) == set(conns)
        for text in texts:
            for conn in conns:
                conn.send("own " + LONG)
            ws.broadcast(text)
        for client in clients:
            for text in texts:
                assert [await client.recv(), await client.recv()] == ["own " + LONG, text]
        thread = threading.Thread(target=ws.broadcast, args=(texts[2],))
        thread.start()
        for client in clients:
            assert await client.recv() == texts[2]
            await client.close()
        thread.join()
