"""An application, its server and its clients, all in one thread, so that nothing happens but when a test has it happen.

The loop is a real one, asyncio's or uvloop's, that turns when told. What it calls of crest's own it calls `through`
something; see stepping.py.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from model import ALL, Record
from peer import Peer
from scenarios import Scenario
from stepping import Stage, Through, loop_of
from support.certificates import Pair
from support.client import BINARY, CLOSE, TEXT

import crest.listening.listener
from crest import App, WebSocketServer
from crest.io.life.protocol import ServerProtocol

GUARD = float(os.environ.get("HOSTILE_GUARD", "20"))
"""Seconds after which what is waited for does not happen any more."""


class Stuck(Exception):
    """What was waited for has not happened."""


class World:
    """One server.

    Args:
        scenario: What it is like.
        pair: A certificate, for TLS.
        through: What crest is called through.
        pause, resume: Around what the application must not be disturbed in.

    Attributes:
        actions: What a client may have the application do, by the text of its message.
        connections: Those of clients that have ever connected, by name.
    """

    def __init__(
        self,
        scenario: Scenario,
        pair: Pair | None,
        *,
        through: Through | None = None,
        pause: Callable[[], None] = lambda: None,
        resume: Callable[[], None] = lambda: None,
    ) -> None:
        self.scenario, self.pair, self.through = scenario, pair, through
        self.pause, self.resume = pause, resume
        self.record = Record()
        self.connections: dict[str, Any] = {}
        self.closed: dict[str, list[tuple[int, str]]] = {}
        self.owned: list[weakref.ref[Any]] = []
        self.faults: list[str] = []
        self.unraisable: list[str] = []
        self.peers: list[Peer] = []
        self.in_error: set[str] = set()
        self.serial = 0
        self.staying: set[str] = set()
        self.hostile: Callable[[Any], Any] = self.look
        self.loop = loop_of(scenario.loop)
        self.loop.set_exception_handler(lambda _, context: None)
        self.actions: dict[str, Callable[[Any], Any]] = {
            "echo": lambda conn: self.send(conn, 20),
            "large": lambda conn: self.send(conn, 70_000),
            "binary": lambda conn: self.send(conn, 9000, binary=True),
            "broadcast": lambda conn: self.broadcast(300),
            "broadcast-binary": lambda conn: self.broadcast(9000, binary=True),
            "uncompressed": lambda conn: self.broadcast(3000, compress=False),
            "state": lambda conn: self.broadcast(300, key="state"),
            "joins": lambda conn: (conn.join("hall"), conn.join("other")),
            "room": lambda conn: self.broadcast(300, to="hall"),
            "rooms": lambda conn: (self.broadcast(3000, to=["hall", "other"]), self.broadcast(9000, to="other")),
            "user": lambda conn: self.ws.room_size(self.ws.user("owner")),
            "parts": lambda conn: conn.leave("hall"),
            "burst": lambda conn: [self.send(conn, 3000) for _ in range(60)],
            "flood": lambda conn: [self.broadcast(5000) for _ in range(60)],
            "ping": lambda conn: conn.ping(),
            "close": self.close,
            "raise": self.fail,
            "look": self.look,
        }

    # ---- The application -----------------------------------------------------------------------------------------

    def send(self, conn: Any, size: int, tag: str = "", binary: bool = False) -> Any:
        self.pause()
        payload = self.record.payload(size, tag)
        data = payload if binary else payload.decode()
        call = self.record.begin(conn.state.name, BINARY if binary else TEXT, payload)
        method = conn.send_binary if binary else conn.send
        return self.made(call, method, data)

    def broadcast(self, size: int, tag: str = "", binary: bool = False, **options: Any) -> Any:
        self.pause()
        payload = self.record.payload(size, tag)
        data = payload if binary else payload.decode()
        rooms = options.get("to")
        is_open = frozenset(
            name
            for name, conn in self.connections.items()
            if conn.is_open()
            and (rooms is None or not conn.rooms.isdisjoint([rooms] if isinstance(rooms, str) else rooms))
        )
        call = self.record.begin(ALL, BINARY if binary else TEXT, payload, is_open)
        method = self.ws.broadcast_binary if binary else self.ws.broadcast
        return self.made(call, partial(method, **options), data)

    def close(self, conn: Any, *args: Any) -> Any:
        self.pause()
        call = self.record.begin(conn.state.name, 0, b"")
        return self.made(call, conn.close, *args)

    def made(self, call: Any, method: Any, *args: Any) -> Any:
        """Make the call, and note what came of it."""
        self.resume()
        try:
            result = method(*args)
        except BaseException as error:
            self.pause()
            self.record.end(call, error)
            self.resume()
            raise
        self.pause()
        self.record.end(call, result)
        self.resume()
        return result

    def fail(self, conn: Any) -> None:
        raise ValueError("the handler of this message raises")

    def look(self, conn: Any) -> Any:
        """Ask whatever can be asked."""
        text = f"{conn!r} {conn.buffered} {conn.latency} {conn.compression} {conn.remote_address} {conn.dropped}"
        request = conn.request
        text += f"{request.headers!r} {request.cookies!r} {request.query!r} {request!r}"
        text += f"{conn.rooms!r} {self.ws.room_names()!r} {self.ws.room_size('hall')} {self.ws.user('owner')!r}"
        return text, self.ws.get_connections(), self.ws.connection_count(), self.ws.refused

    def connected(self, conn: Any) -> None:
        self.pause()
        name = conn.request.query["name"]
        conn.state.name = name
        if name in self.connections:
            self.faults.append(f"on_connect ran twice for {name}")
        self.connections[name] = conn
        self.closed[name] = []
        self.resume()

    def received(self, conn: Any, text: str) -> None:
        name, _, tag = text.partition(" ")
        if name == "sync":
            self.send(conn, 0, tag)
        else:
            self.actions[name](conn)

    def got_binary(self, conn: Any, data: bytes) -> None:
        self.send(conn, 30, binary=True)

    def gone(self, conn: Any, code: int, reason: str) -> None:
        self.pause()
        self.closed[conn.state.name].append((code, reason))
        self.resume()

    def erred(self, conn: Any, error: str) -> None:
        self.pause()
        self.in_error.add(conn.state.name)
        self.resume()

    def upgrading(self, request: Any) -> Any:
        user = Owned()
        self.owned.append(weakref.ref(user))
        return user

    # ---- The server ----------------------------------------------------------------------------------------------

    def _build(self) -> None:
        scenario = self.scenario
        self.app, self.ws = App(**scenario.app), WebSocketServer("/ws", **scenario.server)
        self.app.mount("/ws", self.ws)
        plain = {
            "on_connect": self.connected,
            "on_message": self.received,
            "on_binary": self.got_binary,
            "on_close": self.gone,
        }
        for name, handler in plain.items():
            made = slowly(handler, at_once=name == "on_close") if scenario.handlers == "async" else handler
            getattr(self.ws, name)(made)
        if scenario.watches:
            self.ws.on_error(self.erred)
            self.ws.on_drain(lambda conn: None)
        if scenario.upgrade:
            self.ws.on_upgrade(slowly(self.upgrading) if scenario.upgrade == "async" else self.upgrading)
        page: Any = lambda request: {"path": request.path, "query": dict(request.query)}  # noqa: E731
        self.app.get("/page")(page)
        self.app.get("/slow")(slowly(page))
        self.app.static("/files", os.path.dirname(os.path.abspath(__file__)))

    @contextmanager
    def serving(self, folder: str) -> Iterator[World]:
        """Serve while the context lasts; at its end, all must be as it was before."""
        logger = logging.getLogger("crest")
        logger.propagate = False
        if not logger.handlers:
            logger.addHandler(logging.NullHandler())
        sys.unraisablehook = lambda unraisable: self.unraisable.append(
            f"{unraisable.err_msg} {unraisable.object!r}: {unraisable.exc_value!r}"
        )
        asyncio.set_event_loop(self.loop)
        gc.collect()
        descriptors = self.descriptors()
        if self.through is not None:
            through = self.through
            crest.listening.listener.ServerProtocol = lambda turn, site: Stage(through, ServerProtocol(turn, site))
        self._build()
        options: dict[str, Any] = {"direct": self.scenario.direct}
        if self.scenario.transport == "unix":
            options["unix"] = f"{folder}/{os.getpid()}.sock"
        if self.scenario.transport == "tls":
            assert self.pair is not None
            options |= {"certfile": self.pair.certfile, "keyfile": self.pair.keyfile}
        self.loop.through = self.through
        self._context = self.app.listening(**options)
        self.listener = self.loop.run_until_complete(self._context.__aenter__())
        self.address: Any = options.get("unix") or self.listener.address
        self.base = self.descriptors()
        try:
            yield self
        finally:
            self.loop.through = None
            for peer in self.peers:
                peer.end()
            self.loop.run_until_complete(self._context.__aexit__(None, None, None))
            self.turn()
            if tasks := asyncio.all_tasks(self.loop):
                self.faults.append(f"tasks are left: {tasks}")
            self.loop.run_until_complete(self.loop.shutdown_default_executor())
            self.connections.clear()
            gc.collect()
            if alive := sum(each() is not None for each in self.owned):
                self.faults.append(f"{alive} objects that were users of connections are left")
            try:
                self.until(
                    lambda: self.descriptors() <= descriptors + self.scenario.kept, "descriptors that are closed"
                )
            except Stuck:
                self.faults.append(f"{self.descriptors() - descriptors} descriptors are left")
            self.loop.close()
            crest.listening.listener.ServerProtocol = ServerProtocol

    def descriptors(self) -> int:
        return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0

    # ---- Clients -------------------------------------------------------------------------------------------------

    def peer(self, receive_buffer: int | None = None) -> Peer:
        """A client that has connected, and said nothing yet."""
        self.serial += 1
        tls = self.pair.client() if self.scenario.transport == "tls" and self.pair is not None else None
        peer = Peer(f"p{self.serial}", self.address, tls, receive_buffer, self.scenario.before)
        self.peers.append(peer)
        return peer

    def upgrade(self, peer: Peer, rest: bytes = b"") -> None:
        peer.upgrade(f"/ws?name={peer.name}", self.scenario.extensions, rest)

    def turn(self, times: int = 1) -> None:
        for _ in range(times):
            self.loop.call_soon(self.loop.stop)
            self.loop.run_forever()
            for peer in self.peers:
                peer.turn()

    def until(self, happened: Callable[[], bool], what: str) -> None:
        """Turn until something has happened."""
        end = time.monotonic() + GUARD
        turns = 0
        while not happened():
            self.turn()
            turns += 1
            if turns > 200:  # a deadline is awaited: let others have the processor
                time.sleep(0.001)
                if time.monotonic() > end:
                    raise Stuck(what)

    def sync(self, peer: Peer) -> bool:
        """Until the application has handled all that the client has said. False: the client's connection is over.

        A handler that raised leaves a connection open if there is an on_error: then the client asks again.
        """
        for _ in range(3):
            self.serial += 1
            tag = f"sync{self.serial}"
            self.in_error.discard(peer.name)
            peer.say(f"sync {tag}")
            asked = partial(lambda tag: peer.over or peer.heard(tag) or peer.name in self.in_error, tag)
            self.until(asked, f"an answer to {peer.name}")
            if peer.over or peer.heard(tag):
                break
        return peer.heard(tag)

    def bystander(self) -> Peer:
        """A client that is open; nothing that happens to others may happen to it."""
        peer = self.peer()
        self.upgrade(peer)
        if not self.sync(peer):
            raise Stuck(f"a new client is not served: {peer.head[:60]!r}")
        return peer

    # ---- What must hold ------------------------------------------------------------------------------------------

    def check(self, peer: Peer, *, drops: bool = False) -> None:
        """A client got what it must get."""
        self.faults += peer.faults[:3]
        over = peer.over or peer.name not in self.connections
        self.faults += self.record.faults(peer.name, peer.messages, ended=over, drops=drops or self.scenario.drops)[:3]

    def leave(self, peer: Peer) -> None:
        """A client has gone: so has its connection, with its on_close."""
        self.peers.remove(peer)
        peer.end()

    def all_gone(self, remaining: int) -> None:
        """Those that have left are gone for the server too, but for so many that remain."""
        listener = self.listener
        try:
            self.until(lambda: len(listener.protocols) <= remaining, "the end of connections")
        except Stuck:
            self.faults.append(f"{len(listener.protocols)} connections are there instead of {remaining}")
        if len(listener.protocols) < remaining:
            self.faults.append(f"only {len(listener.protocols)} connections are there instead of {remaining}")
        self.turn(2)
        if [each.slot for each in listener.protocols] != list(range(len(listener.protocols))):
            self.faults.append(f"slots {[each.slot for each in listener.protocols]}")
        if self.ws.connection_count() != remaining:
            self.faults.append(f"connection_count() is {self.ws.connection_count()} instead of {remaining}")
        if self.ws._admission.is_limited and len(listener.site.seats) != remaining:
            self.faults.append(f"{len(listener.site.seats)} seats are taken instead of {remaining}")
        if self.listener.site.counts_sockets and len(listener.site._sockets) != remaining:
            self.faults.append(f"{len(listener.site._sockets)} sockets are counted instead of {remaining}")
        if len(listener.site._handshakes):
            self.faults.append(f"{len(listener.site._handshakes)} handshakes are counted")
        staying = {peer.name for peer in self.peers}
        for name, closes in list(self.closed.items()):
            if name not in staying and len(closes) != 1:
                self.faults.append(f"on_close of {name} ran {len(closes)} times: {closes}")
            if name not in staying:
                del self.closed[name], self.connections[name]
        tasks = [task for task in asyncio.all_tasks(self.loop) if not getattr(task, "staying", False)]
        if len(tasks) > self.scenario.tasks:
            self.faults.append(f"tasks are left: {tasks}")
        most = self.base + 2 * remaining + self.scenario.spare
        if self.descriptors() > most and not self.scenario.direct:
            gc.collect()  # asyncio's transports are in cycles: one that was not quite made has its socket until then
        if (open_now := self.descriptors()) > most:
            self.faults.append(f"{open_now} descriptors, {self.base} before, {remaining} connections")

    def forget(self, peers: list[Peer]) -> None:
        """What was sent so far is checked; these clients go on."""
        self.record = Record()
        self.in_error.clear()
        for peer in peers:
            peer.messages.clear()
            peer.pongs.clear()


class Owned:
    """What an application hangs on a connection: a user, which has a room of its own where there is a `user_key`."""

    name = "owner"


def slowly(handler: Callable[..., Any], *, at_once: bool = False) -> Callable[..., Any]:
    """The handler as an async one; `at_once`, it is called before that waits: an `async def` that has no memory for its
    first step has been called, and has failed by itself."""

    async def later(*args: Any) -> Any:
        await asyncio.sleep(0)
        return None if at_once else handler(*args)

    def called(*args: Any) -> Any:
        handler(*args)
        return later()

    return called if at_once else later


__all__ = ["CLOSE", "Owned", "Stuck", "World"]
