"""crest.opening.opening: which upgrade requests are refused, how, and that nothing else comes of them."""

import asyncio
import logging

import pytest
from support.client import KEY, TEXT, Answer, Frame, Server, connect, frame, handshake, request, tcp, upgraded
from support.events import Events, on_each_loop

from crest import App, WebSocketServer


async def answered(server: Server, data: bytes) -> Answer:
    """The response to these bytes; the server must end the connection behind it."""
    async with tcp(server) as client:
        await client.send(data)
        answer = await client.answer()
        assert await client.eof() == b""
        return answer


async def refused(data: bytes) -> Answer:
    """The response to these bytes, by a server at /ws that goes on to serve others."""
    ws, events = WebSocketServer(), Events()
    for register in (ws.on_connect, ws.on_message, ws.on_binary, ws.on_close, ws.on_error):
        register(lambda *args: events.add(args))
    async with App().listening() as server:
        answer = await answered(server, data)
        assert events.seen == []
        async with upgraded(server) as other:
            await other.round_trip()
    return answer


# ---- Accepted --------------------------------------------------------------------------------------------------------


@on_each_loop
async def test_a_handshake_is_accepted_as_the_rfc_shows_it() -> None:
    ws = WebSocketServer("/chat")
    async with App().listening() as server, tcp(server) as client:
        answer = await client.upgrade(ws.path)
    assert answer.headers == {
        "upgrade": "websocket",
        "connection": "Upgrade",
        "sec-websocket-accept": "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
    }


@pytest.mark.parametrize(
    "changed",
    [
        {"Upgrade": "WebSocket"},
        {"Upgrade": "h2c, websocket"},
        {"Connection": "keep-alive, Upgrade"},
        {"Connection": "UPGRADE"},
        {"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits"},
        {"Sec-WebSocket-Protocol": "chat"},
        {"Origin": "http://test"},
        {"Content-Length": "0"},
    ],
)
@on_each_loop
async def test_what_the_rfc_allows_is_accepted(changed: dict[str, str]) -> None:
    ws = WebSocketServer()
    ws.on_message(lambda conn, message: conn.send(message))
    async with App().listening() as server, upgraded(server, changed=changed) as client:
        await client.send(frame(TEXT, "x"))
        assert await client.frame() == Frame(TEXT, b"x")


@on_each_loop
async def test_no_extension_is_agreed_on() -> None:
    ws = WebSocketServer()
    ws.on_message(lambda conn, message: conn.send(message))
    async with App().listening() as server, connect(server, compression="deflate") as client:
        assert client.response is not None
        assert "Sec-WebSocket-Extensions" not in client.response.headers
        await client.send("x" * 1000)
        assert await client.recv() == "x" * 1000


# ---- 404 -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/ws/", "/WS", "/ws/x", "/other", "/w", "//ws"])
@on_each_loop
async def test_an_upgrade_request_for_an_unknown_path_gets_404(path: str) -> None:
    ws = WebSocketServer()
    ws.on_connect(lambda conn: conn.close())
    async with App().listening() as server, tcp(server) as client:
        await client.send(handshake(path))
        assert (await client.answer()).status == 404


@on_each_loop
async def test_a_known_path_is_known_with_a_query_and_with_percent_encoding() -> None:
    ws = WebSocketServer("/a b")
    async with App().listening() as server:
        for path in ("/a%20b", "/a%20b?x=1", "/%61%20b", "http://test/a%20b"):
            async with upgraded(server, path) as client:
                await client.round_trip()
    assert ws.path == "/a b"


@on_each_loop
async def test_without_any_server_every_upgrade_request_gets_404() -> None:
    async with App().listening() as server, tcp(server) as client:
        await client.send(handshake("/ws"))
        assert (await client.answer()).status == 404


# ---- 426 -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@on_each_loop
async def test_a_request_that_is_no_upgrade_gets_426(method: str) -> None:
    ws = WebSocketServer()
    async with App().listening() as server, tcp(server) as client:
        await client.send(request(ws.path, method=method))
        answer = await client.answer(head_only=method == "HEAD")
        assert answer.status == 426
        assert answer.headers["upgrade"] == "websocket"
        assert "Upgrade" in answer.headers["connection"]


@pytest.mark.parametrize("upgrade", [None, "h2c", "websockets", ""])
@on_each_loop
async def test_an_upgrade_to_something_else_gets_426(upgrade: str | None) -> None:
    answer = await refused(handshake(changed={"Upgrade": upgrade}))
    assert answer.status == 426
    assert answer.headers["upgrade"] == "websocket"
    assert b"WebSocket" in answer.body


@pytest.mark.parametrize("version", ["12", "8", "0", "14", "13.0", "xiii", ""])
@on_each_loop
async def test_a_version_other_than_13_gets_426_that_says_13(version: str) -> None:
    answer = await refused(handshake(changed={"Sec-WebSocket-Version": version}))
    assert answer.status == 426
    assert answer.headers["sec-websocket-version"] == "13"
    assert b"Sec-WebSocket-Version is not 13" in answer.body


# ---- 400 -------------------------------------------------------------------------------------------------------------

REPEATED_KEY = handshake().replace(b"\r\n\r\n", f"\r\nSec-WebSocket-Key: {KEY}\r\n\r\n".encode())
BAD_HANDSHAKES = {
    "no key": (handshake(changed={"Sec-WebSocket-Key": None}), b"Sec-WebSocket-Key is missing"),
    "empty key": (handshake(changed={"Sec-WebSocket-Key": ""}), b"Sec-WebSocket-Key is not the base64 of 16 bytes"),
    "short key": (handshake(changed={"Sec-WebSocket-Key": "AAAA"}), b"is not the base64 of 16 bytes: 'AAAA'"),
    "long key": (handshake(changed={"Sec-WebSocket-Key": KEY * 2}), b"is not the base64 of 16 bytes"),
    "key that is no base64": (handshake(changed={"Sec-WebSocket-Key": "!" * 22 + "=="}), b"is not the base64"),
    "repeated key": (REPEATED_KEY, b"Sec-WebSocket-Key is repeated"),
    "no version": (handshake(changed={"Sec-WebSocket-Version": None}), b"Sec-WebSocket-Version is missing"),
    "no Connection": (handshake(changed={"Connection": None}), b"Connection does not contain 'Upgrade'"),
    "Connection without Upgrade": (
        handshake(changed={"Connection": "close"}),
        b"Connection does not contain 'Upgrade'",
    ),
    "no Host": (handshake(changed={"Host": None}), b"Host is missing"),
    "bad Host": (handshake(changed={"Host": "a b"}), b"Host is not a host name"),
    "POST": (handshake(method="POST"), b"the method of an opening handshake is GET, not 'POST'"),
    "HTTP/1.0": (handshake().replace(b"HTTP/1.1", b"HTTP/1.0"), b"an opening handshake takes HTTP/1.1, not HTTP/1.0"),
    "a body": (handshake(changed={"Content-Length": "5"}) + b"hello", b"has no body"),
    "bad extensions": (handshake(changed={"Sec-WebSocket-Extensions": "a b"}), b"Sec-WebSocket-Extensions has 'a b'"),
    "bad subprotocols": (handshake(changed={"Sec-WebSocket-Protocol": "a b"}), b"not a token: 'a b'"),
    "no path": (handshake("*"), b"the request target has no path"),
    "fragment": (handshake("/ws#x"), b"the request target has a fragment, which no request may have: '/ws#x'"),
    "absolute target with a fragment": (handshake("http://test/ws?a=1#x"), b"has a fragment"),
}


@pytest.mark.parametrize("name", BAD_HANDSHAKES)
@on_each_loop
async def test_a_bad_handshake_gets_400_with_a_body_that_says_why(name: str) -> None:
    data, why = BAD_HANDSHAKES[name]
    answer = await refused(data)
    assert answer.status == 400
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["connection"] == "close"
    assert why in answer.body


@on_each_loop
async def test_a_refusal_shows_the_peers_values_shortened_and_escaped() -> None:
    answer = await refused(handshake(changed={"Sec-WebSocket-Key": "<script>\xff" + "x" * 1000}))
    assert answer.status == 400
    assert len(answer.body) < 200
    assert answer.body.isascii()
    assert answer.headers["x-content-type-options"] == "nosniff"


@on_each_loop
async def test_a_refusal_is_one_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "crest"):
        await refused(handshake(changed={"Sec-WebSocket-Key": None}))
    (record,) = [record for record in caplog.records if "Refused" in record.getMessage()]
    assert record.levelno == logging.INFO
    assert "400, Sec-WebSocket-Key is missing" in record.getMessage()
    assert "127.0.0.1" in record.getMessage()
    assert record.exc_info is None


# ---- While the server shuts down -------------------------------------------------------------------------------------


@on_each_loop
async def test_a_request_during_shutdown_is_not_accepted() -> None:
    ws, events = WebSocketServer(), Events()
    ws.on_connect(events.add)
    async with App().listening() as server:
        async with tcp(server) as client:
            await client.send(handshake()[:20])
            await upgrade_elsewhere(server)
            stopping = asyncio.create_task(server.stop())
            assert await client.eof() == b""
        await stopping
    assert len(events.seen) == 1


async def upgrade_elsewhere(server: Server) -> None:
    """The server has accepted, and read, what came before."""
    async with upgraded(server) as other:
        await other.round_trip()
