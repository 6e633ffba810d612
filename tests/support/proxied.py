"""What tests of the PROXY protocol share: headers, an app behind a proxy, and clients that send them."""

import logging
from typing import Any

import pytest

from crest import App, Request, WebSocketServer
from support.client import TEXT, Client, Frame, Server, frame, handshake, tcp
from support.events import Events

ALICE = ("192.0.2.7", 56324)
V1 = b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n"
V2 = bytes.fromhex("0d0a0d0a000d0a515549540a 21 11 000c c0000207 c6336401 dc04 01bb")
LOCAL = bytes.fromhex("0d0a0d0a000d0a515549540a 20 00 0000")
UNKNOWN = b"PROXY UNKNOWN\r\n"
NONE = "Refused a connection of {}: its PROXY protocol header: {}"


def behind(proxy: str = "127.0.0.1", **options: Any) -> App:
    """An app behind a proxy that speaks the PROXY protocol; it tells who asks for /who."""
    app = App(trusted_proxies=[proxy], proxy_protocol=True, **options)

    @app.get("/who")
    def who(request: Request) -> dict[str, Any]:
        return {"client": request.client}

    return app


def echo(**options: Any) -> tuple[WebSocketServer, Events]:
    """A server that sends everything back, and the clients that it has."""
    ws, clients = WebSocketServer(**options), Events()
    ws.on_connect(lambda conn: clients.add(conn.remote_address, conn.request.client))
    ws.on_message(lambda conn, message: conn.send(message))
    return ws, clients


async def greet(client: Client, *before: bytes) -> None:
    """Shake hands behind a header, and see that it works."""
    await client.send(*before, handshake())
    assert (await client.answer()).status == 101
    await client.send(frame(TEXT, "hello"))
    assert await client.frame() == Frame(TEXT, b"hello")


async def dropped(server: Server, data: bytes, caplog: pytest.LogCaptureFixture) -> list[str]:
    """Send something; the connection must end without a response. What the log says, {} in place of the peer."""
    caplog.clear()
    with caplog.at_level(logging.INFO, "crest"):
        async with tcp(server) as client:
            await client.send(data)
            assert await client.eof() == b""
            return [message.replace(str(client.address), "{}") for message in caplog.messages]


async def assert_ends(client: Client, begun: bytes, lines: int, caplog: pytest.LogCaptureFixture) -> None:
    """The client ends it. Who connects and leaves only looked whether somebody listens: no line in the log."""
    with caplog.at_level(logging.INFO, "crest"):
        caplog.clear()
        await client.send(begun)
        client.writer.write_eof()
        assert await client.eof() == b""
        assert caplog.messages == [NONE.format(client.address, "it is not complete")] * lines


BEGUN = pytest.mark.parametrize(("begun", "lines"), [(b"", 0), (V2[:20], 1)])
