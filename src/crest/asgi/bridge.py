"""A `WebSocketServer` under an ASGI server that knows events only: hypercorn, granian, daphne, Starlette's TestClient.

crest's engine serves one end of a socket pair, as it serves any connection. At the other end this is its client: an
event becomes a frame, and a frame becomes an event. So all holds that holds elsewhere, and costs more.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from string import punctuation
from struct import pack
from typing import Any, Final
from urllib.parse import quote

from crest.asgi.engine import Engine, engine_of
from crest.asgi.mounted import MountedOpening, run_beside
from crest.io.life.protocol import Protocol
from crest.server import Receive, Send, WebSocketServer
from crest.wire.codes import CloseCode, Opcode, is_wire_close_code
from crest.wire.fields import extra_fields
from crest.wire.frames import FrameReader
from crest.wire.head import parse_head
from crest.wire.masking import Masker
from crest.wire.response import ResponseHead, ResponseReader
from crest.wire.role import Role

KEY: Final = "AAAAAAAAAAAAAAAAAAAAAA=="

TARGET: Final = punctuation
"""Characters of a request's target that are as they should be, besides letters and digits."""

OWN: Final = frozenset(
    {
        *(b"connection", b"content-length", b"host", b"sec-websocket-accept", b"sec-websocket-extensions"),
        *(b"sec-websocket-key", b"sec-websocket-protocol", b"sec-websocket-version", b"transfer-encoding", b"upgrade"),
    }
)
"""Header fields that this end writes itself, or has no use for. Its client has shaken hands with the ASGI server."""

WITHOUT_PINGS: Final = {"ping_interval": None}
"""They would ask this end: to find clients that have vanished is the ASGI server's business."""

AHEAD: Final = 16
"""Messages that wait for the engine while the next event is awaited, which may be that the client has left."""

ANY_SIZE: Final = 1 << 62


class Site:
    """The site of crest's end of one socket pair."""

    def __init__(self, engine: Engine, scope: Mapping[str, Any]) -> None:
        self._engine = engine
        self._scope = scope

    def opened(self, protocol: Protocol) -> MountedOpening:
        """Return what decides about the request."""
        return MountedOpening(self._engine.site, protocol, self._scope, _tell_nothing, WITHOUT_PINGS)

    def left(self, protocol: Protocol) -> None:
        """Count the connection as one that is gone, and whose handlers run on."""
        self._engine.site.left(protocol)

    def ended(self, protocol: Protocol) -> None:
        """Count the connection no longer."""
        self._engine.site.leave_seat(protocol)

    def farewell(self) -> tuple[int, str] | None:
        """Tell nothing: the ASGI server's end is its clients', and they come here as events."""
        return None


class Bridge:
    """The other end of one socket pair: the client of crest's engine.

    Args:
        reader, writer: Of that end.
        receive, send: The ASGI server's.
        patience: Seconds for the engine to take what a client that has left had sent.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        receive: Receive,
        send: Send,
        patience: float,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._receive = receive
        self._send = send
        self._patience = patience
        writer.transport.set_write_buffer_limits(0)  # drain() waits until the engine's end has everything
        self._ahead: asyncio.Queue[bytes] = asyncio.Queue(AHEAD)
        self._masker = Masker(bytes)  # a key of zeros: nothing but the engine reads it
        self._client_left = False
        self._accepted = False

    async def run(self, denies: bool) -> None:
        """Pass on everything, both ways, until the connection has ended.

        Args:
            denies: The ASGI server takes responses that do not accept ("websocket.http.response").
        """
        outward = asyncio.create_task(self._outward(denies))
        inward = asyncio.create_task(self._inward())
        feeding = asyncio.create_task(self._feed())
        try:
            await asyncio.wait({outward, inward}, return_when=asyncio.FIRST_COMPLETED)
            if inward.done():
                inward.result()
            await outward
        finally:
            for each in (outward, inward, feeding):
                each.cancel()
            await asyncio.wait({outward, inward, feeding})

    async def _outward(self, denies: bool) -> None:
        """Pass on what the engine sends: its response, and then messages."""
        frames, data = FrameReader(role=Role.CLIENT, max_message_size=ANY_SIZE), await self._answer(denies)
        payload: list[Any]
        while self._accepted:
            for kind, *payload in frames.feed(data):
                if kind == Opcode.TEXT:
                    await self._pass_on({"type": "websocket.send", "text": payload[0]})
                elif kind == Opcode.BINARY:
                    await self._pass_on({"type": "websocket.send", "bytes": payload[0]})
                elif kind == Opcode.PING:  # of the application's own
                    self._answer_frame(self._masker.serialize(Opcode.PONG, payload[0]))
                elif kind == Opcode.CLOSE:
                    await self._close(*payload)
                    return
            data = await self._read()
            if not data:
                await self._pass_on({"type": "websocket.close", "code": CloseCode.INTERNAL_ERROR})
                return

    async def _answer(self, denies: bool) -> bytes:
        """Pass the engine's response on. Returns what has come behind it."""
        read = ResponseReader(max_body=ANY_SIZE)
        head: ResponseHead | None = None
        while head is None:
            data = await self._read()
            if not data and self._client_left:
                return b""
            head = read.feed(data) if data else read.feed_eof()
        if head.status == HTTPStatus.SWITCHING_PROTOCOLS:
            self._accepted = True
            subprotocol = head.joined(b"Sec-WebSocket-Protocol")
            await self._pass_on({"type": "websocket.accept", "subprotocol": subprotocol, "headers": []})
        elif denies:
            headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in head.headers.items()]
            await self._pass_on({"type": "websocket.http.response.start", "status": head.status, "headers": headers})
            await self._pass_on({"type": "websocket.http.response.body", "body": read.body})
        else:
            await self._pass_on({"type": "websocket.close"})
        return read.rest

    async def _read(self) -> bytes:
        """Read what the engine has sent; nothing: it has ended."""
        try:
            return await self._reader.read(1 << 16)
        except ConnectionError:
            return b""

    async def _close(self, code: int, reason: str) -> None:
        self._answer_frame(_close_frame(self._masker, code, ""))
        if code == CloseCode.NO_STATUS_RECEIVED:
            code = CloseCode.NORMAL_CLOSURE
        await self._pass_on({"type": "websocket.close", "code": code, "reason": reason})

    def _answer_frame(self, data: bytes) -> None:
        if not self._client_left:  # else this end has closed its half
            self._writer.write(data)

    async def _pass_on(self, event: dict[str, Any]) -> None:
        if self._client_left:
            return
        try:
            await self._send(event)
        except OSError:  # the client has gone: the next event says so
            self._client_left = True

    async def _inward(self) -> None:
        """Take what the client sends, and that it has left."""
        while (event := await self._receive())["type"] != "websocket.disconnect":
            if event["type"] == "websocket.receive":
                text = event.get("text")
                kind, data = (Opcode.BINARY, event["bytes"]) if text is None else (Opcode.TEXT, text.encode())
                await self._ahead.put(self._masker.serialize(kind, data))
        self._client_left = True
        try:
            async with asyncio.timeout(self._patience):
                await self._leave(event.get("code", CloseCode.NO_STATUS_RECEIVED), event.get("reason") or "")
        except TimeoutError:  # handlers are busy, and the engine takes no more: now it hears of the end
            self._writer.transport.abort()

    async def _feed(self) -> None:
        """Give the engine what has come, as fast as it takes it."""
        while True:
            self._writer.write(await self._ahead.get())
            await self._drain()
            self._ahead.task_done()

    async def _drain(self) -> None:
        with suppress(ConnectionError):  # the engine has closed: what it sent last says so
            await self._writer.drain()

    async def _leave(self, code: int, reason: str) -> None:
        """Leave the engine as the client has left the ASGI server, behind what it had sent."""
        if not self._accepted or not (code == CloseCode.NO_STATUS_RECEIVED or is_wire_close_code(code)):
            self._writer.transport.abort()
            return
        await self._ahead.join()
        if not self._writer.transport.is_closing():
            self._writer.write(_close_frame(self._masker, code, reason))
            self._writer.write_eof()
            await self._drain()


async def over_events(server: WebSocketServer, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
    """Serve one connection of which there are events only. Returns when it has ended."""
    loop = asyncio.get_running_loop()
    engine = engine_of(loop)
    engine.mount(server)
    if (await receive())["type"] != "websocket.connect":
        return  # the client has left already
    ours, theirs = socket.socketpair()
    try:
        ours.setblocking(False)
        protocol = await engine.adopt(ours, Site(engine, scope))
        reader, writer = await asyncio.open_connection(sock=theirs)
    except BaseException:
        ours.close()
        theirs.close()
        raise
    bridge = Bridge(reader, writer, receive, send, server.close_timeout)
    try:
        head = parse_head(_head_of(scope))
        run_beside(protocol.transport, protocol.opening.begin, server, head, b"")
        await bridge.run("websocket.http.response" in (scope.get("extensions") or {}))
    finally:
        writer.close()


def _head_of(scope: Mapping[str, Any]) -> bytes:
    """Write the request again. Characters that no request has are percent-encoded: a scope may have them decoded."""
    path = scope.get("raw_path") or quote(scope["path"]).encode()
    target = quote(path.partition(b"?")[0], safe=TARGET)
    if query := scope.get("query_string"):
        target += "?" + quote(query, safe=TARGET)
    fields = [(name, value) for name, value in scope["headers"] if name.lower() not in OWN]
    hosts = [value for name, value in scope["headers"] if name.lower() == b"host"]
    lines = [f"GET {target} HTTP/1.1", f"Host: {hosts[0].decode('latin-1') if hosts else 'localhost'}"]
    lines += ["Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Key: {KEY}", "Sec-WebSocket-Version: 13"]
    if scope.get("subprotocols"):
        lines.append(f"Sec-WebSocket-Protocol: {', '.join(scope['subprotocols'])}")
    return "".join(f"{line}\r\n" for line in lines).encode("latin-1") + extra_fields(fields) + b"\r\n"


def _close_frame(masker: Masker, code: int, reason: str) -> bytes:
    payload = pack("!H", code) + reason.encode() if is_wire_close_code(code) else b""
    return masker.serialize(Opcode.CLOSE, payload)


def _tell_nothing(_: str) -> None:
    """The ASGI server's own log says what has become of its requests."""
