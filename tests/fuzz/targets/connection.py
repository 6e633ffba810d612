"""A whole connection, from its first byte to its last: requests, an upgrade, frames, and the end.

A real app with a transport double is fed the stream, once as a whole and once in chunks, with turns of the loop in
between. Nothing may be raised or logged as an error, each connection that opens must close once, and how the stream was
cut must not show: not in what handlers saw and, where they are plain functions, not in what was sent.

Input: which app, how it ends, turns between chunks, cuts; then the stream.
"""

from __future__ import annotations

import asyncio
import logging
import re
from typing import Any, NamedTuple

from fuzz.inputs import Input
from support import link

from crest import App, Deflate, WebSocketServer
from crest.io.life.protocol import ServerProtocol

ENDS = ["eof", "reset", "eof and reset"]
SETTLED = 40
"""Turns in which everything that was begun has ended: messages that wait for async handlers take three each."""


class Loop(link.Loop):
    """Runs what is scheduled, and asks no selector: nothing here waits for a descriptor."""

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:
        return asyncio.SelectorEventLoop.call_soon(self, callback, *args, context=context)

    def turn(self, times: int = 1) -> None:
        ready = self._ready  # type: ignore[attr-defined]
        for _ in range(times):
            if not ready:
                break
            for _ in range(len(ready)):
                handle = ready.popleft()
                if not handle.cancelled():
                    handle._run()

    def is_quiet(self) -> bool:
        return not self._ready  # type: ignore[attr-defined]


class Complaints(logging.Handler):
    """Collects what is logged as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(self.format(record))


class Outcome(NamedTuple):
    """What became of a stream; `sent` without what no two runs have in common."""

    events: list[tuple[Any, ...]]
    sent: bytes


class World:
    """An app and its loop, in which one connection after the other is opened.

    Args:
        proxied: Whether each connection begins with a header of the PROXY protocol.
    """

    def __init__(self, proxied: bool) -> None:
        self.loop = Loop()
        self.events: list[tuple[Any, ...]] = []
        self.complaints = Complaints()
        self.app = App(trusted_proxies=["unix"], proxy_protocol=proxied, max_header_size=2000, max_headers=20)
        limits: dict[str, Any] = {
            "max_message_size": 2000,
            "max_fragments": 4,
            "max_queue": 2,
            "subprotocols": ["chat"],
        }
        self.plain = WebSocketServer("/ws", compression=Deflate(threshold=1), **limits)
        self.later = WebSocketServer("/async", **limits)
        for server in (self.plain, self.later):
            self.app.mount(server.path, server)
            server.on_connect(self.connected)
            server.on_error(lambda conn, error: self.events.append(("error", error)))
            server.on_close(lambda conn, code, reason: self.events.append(("close", code, reason)))
        self.plain.on_message(self.received)
        self.plain.on_binary(self.received_binary)
        self.later.on_message(self.received_later)
        self.app.get("/")(lambda request: f"{request.path} {dict(request.query)} {request.cookies}")
        self.app.get("/later")(self.page)
        # Ends with the process: what it holds must not come or go while the coverage is counted.
        self.listening = self.app.listening()
        self.listener: Any = self.loop.run_until_complete(self.listening.__aenter__())

    def close(self) -> None:
        self.listener.hurry()  # an input that failed leaves its connection, and no time passes on this loop
        self.loop.run_until_complete(self.listening.__aexit__(None, None, None))
        self.loop.close()

    def connected(self, conn: Any) -> None:
        self.events.append(("connect", conn.request.target, conn.subprotocol, conn.remote_address))
        conn.send("welcome")

    def received(self, conn: Any, message: str) -> None:
        self.events.append(("message", message))
        conn.send(message)
        if message == "close":
            conn.close(4000, "as you wish")
        elif message == "broadcast":
            self.plain.broadcast(message, key=message)
        elif message == "ping":
            conn.ping()

    def received_binary(self, conn: Any, data: bytes) -> None:
        self.events.append(("binary", data))
        conn.send_binary(data)

    async def received_later(self, conn: Any, message: str) -> None:
        self.events.append(("message", message))
        await asyncio.sleep(0)
        conn.send(message)

    async def page(self, request: Any) -> dict[str, str]:
        await asyncio.sleep(0)
        return {"path": request.path}

    def run(self, chunks: list[bytes], turns: int, end: str) -> Outcome:
        """One connection.

        Args:
            turns: Of the loop, behind each chunk.
        """
        # Left from another thread, or by another loop of the same: tests run targets, too.
        asyncio._set_running_loop(self.loop)
        logger = logging.getLogger("crest")
        logger.addHandler(self.complaints)
        propagates, logger.propagate = logger.propagate, False
        self.loop.set_exception_handler(lambda _, context: self.complaints.texts.append(str(context)))
        try:
            return self.tell(Line(self, turns), chunks, end)
        finally:
            logger.propagate = propagates
            logger.removeHandler(self.complaints)
            asyncio._set_running_loop(None)

    def tell(self, line: Line, chunks: list[bytes], end: str) -> Outcome:
        self.events.clear()
        self.loop.timers.clear()
        for chunk in chunks:
            line.receive(chunk)
        line.settle()
        line.end(end)
        assert not self.complaints.texts, self.complaints.texts
        assert not self.listener.protocols and not self.listener.site.seats, "the connection has not ended"
        assert self.plain.connection_count() == self.later.connection_count() == 0
        names = [event[0] for event in self.events]
        assert names.count("connect") == names.count("close") <= 1, names
        assert not names or (names[0], names[-1]) == ("connect", "close"), names
        sent = re.sub(rb"\r\nDate: [^\r]*", b"", bytes(line.transport.wire))
        return Outcome(list(self.events), sent)


class Line:
    """One connection of a world, as its transport and its peer see it."""

    def __init__(self, world: World, turns: int) -> None:
        self.loop, self.turns = world.loop, turns
        self.transport = link.Transport(world.loop)
        self.protocol = ServerProtocol(world.listener.turn, world.listener.site)
        self.transport.protocol = self.protocol
        self.protocol.connection_made(self.transport)
        self.unread = b""

    def receive(self, data: bytes) -> None:
        self.unread += data
        self.read()
        self.loop.turn(self.turns)

    def read(self) -> None:
        while self.unread and self.transport.reading and not self.transport.closing:
            buffer = self.protocol.get_buffer(-1)
            size = min(len(buffer), len(self.unread))
            memoryview(buffer)[:size] = self.unread[:size]
            self.unread = self.unread[size:]
            self.protocol.buffer_updated(size)

    def settle(self) -> None:
        """Let everything happen that follows from what was sent."""
        for _ in range(SETTLED + len(self.unread)):
            self.loop.turn()
            self.read()
            if self.loop.is_quiet():
                break
        assert self.loop.is_quiet(), "the loop does not come to rest"
        assert self.transport.reading or self.transport.closing, "the socket is not read, and nothing will change that"

    def end(self, how: str) -> None:
        if how != "reset" and not self.transport.closing and not self.protocol.eof_received():
            self.transport.close()
        if how != "eof" or self.transport.closing:
            self.transport.end()
        self.settle()
        self.transport.end()
        self.settle()
        del self.transport.protocol  # which the garbage collector would have to find


worlds: dict[bool, World] = {}


def world(proxied: bool) -> World:
    """Made when it is first asked for, once a process."""
    if proxied not in worlds:
        worlds[proxied] = World(proxied)
    return worlds[proxied]


def end_worlds() -> None:
    """For a process that does something else afterwards: their apps count as running until then."""
    while worlds:
        worlds.popitem()[1].close()


def check(data: bytes) -> Outcome:
    given = Input(data)
    here = world(given.choose([False, False, False, True]))
    end, turns = given.choose(ENDS), given.choose(range(4))
    chunks = given.chunks()
    stream = b"".join(chunks)
    whole = here.run([stream] if stream else [], 1, end)
    found = here.run(chunks, turns, end)
    assert found.events == whole.events, f"in chunks: {found.events}\nas a whole: {whole.events}"
    if not any(event[:2] == ("connect", "/async") for event in whole.events):
        assert found.sent == whole.sent, f"in chunks: {found.sent!r}\nas a whole: {whole.sent!r}"
    return whole
