"""The end of a connection that is not read, whatever reading waits for: all promises hold, and nothing is left.

Each test is a cell of a table: what reading waits for, how the connection ends, whose transports serve it, and on which
loop.
"""

import asyncio
import os
import socket
import ssl
import struct
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from support.certificates import Pair
from support.client import GUARD, TEXT, close_frame, frame, handshake, request
from support.events import Events, Gate, on_each_loop, turns
from support.vanishing import come_back, vanish

from crest import App, Request, WebSocketConnection, WebSocketServer
from crest.io.loop.poller import Poller
from crest.listening.listener import Listener

LINUX = sys.platform.startswith("linux")
pytestmark = pytest.mark.skipif(not Poller.exists, reason="only a heartbeat notices such an end without a poller")

MOST = 4
"""`max_queue`."""

MESSAGES = [str(number) for number in range(20)]
"""The first is handled, MOST wait for their handler, and the others are read no more than what comes in one chunk."""


class Peer:
    """A client that does what it is told and nothing else."""

    def __init__(self, server: Listener, path: Path, tls: ssl.SSLContext | None) -> None:
        if server.host:
            self.sock = socket.create_connection((server.host, server.port), GUARD)
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # a reset forgets what has not left
        else:
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(GUARD)
            self.sock.connect(str(path))
        if tls is not None:
            self.sock = tls.wrap_socket(self.sock, server_hostname=server.host)

    def send(self, *pieces: bytes) -> None:
        self.sock.sendall(b"".join(pieces))

    def read_head(self) -> bytes:
        found = b""
        while not found.endswith(b"\r\n\r\n"):
            found += self.sock.recv(1)
        return found

    def read_to_end(self) -> bytes:
        found = b""
        while chunk := self.sock.recv(1 << 16):
            found += chunk
        return found

    # ---- The ends ----------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Close one half. Over TLS without a close_notify, as most clients that end do."""
        self.sock.shutdown(socket.SHUT_WR)

    def leave(self) -> None:
        """Close both halves, everything read."""
        self.sock.close()

    def reset(self) -> None:
        """A Unix socket does so when something was unread; crest has sent something."""
        if self.sock.family != socket.AF_UNIX:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def say_goodbye(self) -> None:
        """A close frame, and the end without awaiting its answer."""
        self.send(close_frame(4000, "bye"))
        self.sock.shutdown(socket.SHUT_WR)


End = Callable[[Peer], None]

ENDS: dict[str, tuple[End, int]] = {
    "finish": (Peer.finish, 1006),
    "leave": (Peer.leave, 1006),
    "reset": (Peer.reset, 1006),
    "close frame": (Peer.say_goodbye, 4000),
}
"""How a connection ends, and the code that on_close gets."""


class World:
    """One server and one client of it.

    Attributes:
        served: What the server is asked to serve with: `app.listening`'s arguments.
    """

    def __init__(self, path: Path, pair: Pair, kind: str, direct: bool) -> None:
        self.path, self.tls = path, pair.client() if kind == "tls" else None
        self.served: dict[str, Any] = {"direct": direct}
        if kind == "unix":
            self.served["unix"] = path
        if kind == "tls":
            self.served |= {"certfile": pair.certfile, "keyfile": pair.keyfile}

    @asynccontextmanager
    async def listening(self, app: App) -> AsyncIterator[Listener]:
        """Serve; behind that no task, descriptor or connection may be left, nor one among the seats."""
        tasks = asyncio.all_tasks()
        async with app.listening(**self.served) as server:
            first = await self.connect(server)
            first.send(request("/first"))
            await asyncio.to_thread(first.read_head)
            first.leave()
            await eventually(lambda: not server.protocols)
            descriptors = len(os.listdir("/dev/fd"))  # the loop has opened what it keeps for good
            yield server
            await eventually(lambda: not server.protocols)
            assert not server.site.seats
            assert used(server) == 0
            await eventually(lambda: asyncio.all_tasks() == tasks)
            await eventually(lambda: len(os.listdir("/dev/fd")) == descriptors)

    async def connect(self, server: Listener) -> Peer:
        return await asyncio.to_thread(Peer, server, self.path, self.tls)

    async def upgraded(self, server: Listener) -> Peer:
        peer = await self.connect(server)
        peer.send(handshake())
        assert b" 101 " in await asyncio.to_thread(peer.read_head)
        return peer


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait until it holds."""
    async with asyncio.timeout(GUARD):
        while not condition():
            await asyncio.sleep(0.001)


def used(server: Listener) -> int:
    return server.turn.budget.used


@pytest.fixture(params=["tcp", "tls", "unix"])
def world(request: pytest.FixtureRequest, pair: Pair, direct: bool) -> Iterator[World]:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield World(Path(folder) / "s", pair, request.param, direct)


def forgets(world: World) -> bool:
    """True for uvloop's TLS. When the peer ends, it forgets what it has for a protocol that pauses."""
    is_uvloop = type(asyncio.get_running_loop()).__module__.startswith("uvloop")
    return is_uvloop and world.tls is not None and not world.served["direct"]


# ---- Messages that wait for a handler --------------------------------------------------------------------------------


def slow_server(gate: Gate, events: Events, **options: Any) -> WebSocketServer:
    """A server whose handler waits at the gate with the first message."""
    ws = WebSocketServer(max_queue=MOST, max_connections=1, **{"ping_interval": None, **options})

    @ws.on_message
    async def received(conn: WebSocketConnection, message: str) -> None:
        try:
            await gate.passed()
        except asyncio.CancelledError:
            events.add("cancelled", message)
            raise
        events.add(message)

    ws.on_connect(lambda conn: conn.send("unread"))
    ws.on_close(lambda conn, code, reason: events.add("close", code))
    return ws


async def not_read(world: World, server: Listener) -> Peer:
    """A client of which a message is handled, some wait, and some are not read."""
    peer = await world.upgraded(server)
    half = len(MESSAGES) // 2
    peer.send(*(frame(TEXT, each) for each in MESSAGES[:half]))
    await eventually(lambda: used(server) > 0)  # so reading has paused, in the same call
    peer.send(*(frame(TEXT, each) for each in MESSAGES[half:]))
    return peer


@pytest.mark.parametrize("how", ENDS)
@on_each_loop
async def test_what_was_sent_before_the_end_is_handled(world: World, how: str) -> None:
    """As it is where reading goes on. Nothing can be sent from then on, and the client counts no longer."""
    app, gate, events = App(), Gate(), Events()
    ws = slow_server(gate, events)
    app.mount("/ws", ws)
    async with world.listening(app) as server:
        peer = await not_read(world, server)
        (conn,) = ws.get_connections()
        end, code = ENDS[how]
        end(peer)
        await eventually(lambda: not conn.is_open())
        assert not conn.send("to whom?") and ws.connection_count() == 0
        assert events.seen == []
        gate.open()
        if forgets(world):
            await eventually(lambda: ("close", code) in events.seen or ("close", 1006) in events.seen)
            assert events.seen[:-1] == MESSAGES[: len(events.seen) - 1] and len(events.seen) > MOST
        else:
            assert await events.reach(len(MESSAGES) + 1) == [*MESSAGES, ("close", code)]
        peer.leave()


@pytest.mark.parametrize("how", ENDS)
@on_each_loop
async def test_handlers_that_do_not_end_are_cancelled(world: World, how: str) -> None:
    """In `close_timeout`, and what waits for them is skipped; then another may have the seat."""
    app, gate, events = App(), Gate(), Events()
    app.mount("/ws", slow_server(gate, events, close_timeout=0.1))
    async with world.listening(app) as server:
        peer = await not_read(world, server)
        end, code = ENDS[how]
        end(peer)
        codes = [code, 1006] if forgets(world) else [code]
        assert await events.reach(2) in [[("cancelled", MESSAGES[0]), ("close", each)] for each in codes]
        await eventually(lambda: not server.protocols)
        peer.leave()
        again = await world.upgraded(server)
        again.leave()
        assert (await events.reach(3))[2] == ("close", 1006)


@pytest.mark.parametrize("how", ["leave", "reset"])
@on_each_loop
async def test_many_clients_do_not_keep_others_out(world: World, how: str) -> None:
    app, gate, events = App(), Gate(), Events()
    ws = slow_server(gate, events, close_timeout=0.1)
    app.mount("/ws", ws)
    async with world.listening(app) as server:
        for _ in range(5):
            peer = await not_read(world, server)
            ENDS[how][0](peer)
            await eventually(lambda: not server.protocols)
        assert [each for each in events.seen if each[0] == "close"] == [("close", 1006)] * 5


@on_each_loop
async def test_a_rate_is_not_exceeded_by_what_came_while_nothing_was_read(world: World) -> None:
    """The whole of it is read at once; it may have been sent over all the time before."""
    app, gate, events = App(), Gate(), Events()
    app.mount("/ws", slow_server(gate, events, max_message_rate=(1000, len(MESSAGES) // 2)))
    if forgets(world):
        pytest.skip("uvloop's TLS forgets what it has taken")
    async with world.listening(app) as server:
        peer = await not_read(world, server)
        await asyncio.sleep(3 * len(MESSAGES) / 1000)  # in which the client may send all of them
        peer.finish()
        gate.open()
        assert await events.reach(len(MESSAGES) + 1) == [*MESSAGES, ("close", 1006)]
        peer.leave()


@pytest.mark.skipif(not LINUX, reason="needs a socket filter, and TCP_INFO")
@on_each_loop
async def test_one_that_vanishes_is_found(world: World) -> None:
    if "unix" in world.served:
        pytest.skip("the peer's kernel is this one")
    app, gate, events = App(), Gate(), Events()
    app.mount("/ws", slow_server(gate, events, ping_interval=0.1, ping_timeout=0.1, close_timeout=0.1))
    async with world.listening(app) as server:
        peer = await not_read(world, server)
        vanish(peer.sock)
        assert await events.reach(2) == [("cancelled", MESSAGES[0]), ("close", 1011)]
        come_back(peer.sock)
        peer.reset()


@pytest.mark.skipif(not LINUX, reason="elsewhere its kernel may be silent")
@on_each_loop
async def test_one_that_leaves_behind_more_than_has_room_is_found(direct: bool, pair: Pair) -> None:
    """Its end can not come before there is room again, but its kernel wants nothing any more, and says so."""
    app, gate, events = App(), Gate(), Events()
    app.mount("/ws", slow_server(gate, events, ping_interval=0.1, ping_timeout=GUARD, close_timeout=0.1))
    world = World(Path(), pair, "tcp", direct)
    async with world.listening(app) as server:
        peer = await not_read(world, server)
        peer.sock.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                peer.sock.send(frame(TEXT, "x" * 1000))
        await turns(2)
        while peer.sock.recv(1) != b"d":  # "unread" was: else this would be a reset
            pass
        peer.leave()
        assert await events.reach(2) == [("cancelled", MESSAGES[0]), ("close", 1006)]


# ---- Requests --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["finish", "leave", "reset"])
@on_each_loop
async def test_a_decision_for_a_client_that_has_gone_is_cancelled(world: World, how: str) -> None:
    """It has sent so much behind its request that it is not read."""
    app, gate, events = App(max_header_size=1000), Gate(), Events()
    ws = WebSocketServer(max_connections=1)
    app.mount("/ws", ws)

    @ws.on_upgrade
    async def decide(request: Request) -> None:
        try:
            await gate.passed()
        except asyncio.CancelledError:
            events.add("cancelled")
            raise

    async with world.listening(app) as server:
        peer = await world.connect(server)
        peer.send(handshake(), bytes(2000))
        await eventually(lambda: used(server) >= 2000)
        peer.send(bytes(2000))
        ENDS[how][0](peer)
        assert await events.reach(1) == ["cancelled"]
        await eventually(lambda: not server.protocols)
        peer.leave()
        gate.open()


def skip_halves(world: World) -> None:
    if world.tls is not None and not world.served["direct"]:
        pytest.skip("TLS of the loop's transports is not open by halves")


@asynccontextmanager
async def awaiting_a_page(world: World) -> AsyncIterator[tuple[Peer, Gate, Events]]:
    """A peer whose first request waits for its page, what the page waits for, and what became of it."""
    app, gate, events = App(), Gate(), Events()

    @app.get("/page")
    async def page(request: Request) -> str:
        try:
            await gate.passed()
        except asyncio.CancelledError:
            events.add("cancelled")
            raise
        events.add("made")
        return f"page {request.query_string}"

    async with world.listening(app) as server:
        peer = await world.connect(server)
        peer.send(request("/page?1"))
        await gate.reached()
        yield peer, gate, events


@on_each_loop
async def test_a_page_for_a_client_that_was_reset_is_cancelled(world: World) -> None:
    if "unix" in world.served:
        pytest.skip("a client that has read everything can not reset it")
    async with awaiting_a_page(world) as (peer, _, events):
        peer.send(request("/page?2"))
        peer.reset()
        assert await events.reach(1) == ["cancelled"]


@on_each_loop
async def test_a_client_that_has_closed_its_half_gets_all_its_responses(world: World) -> None:
    """To requests that were not read yet, too."""
    skip_halves(world)
    async with awaiting_a_page(world) as (peer, gate, events):
        peer.send(request("/page?2"), request("/page?3"))
        peer.finish()
        await turns(20)
        assert events.seen == []
        gate.open()
        if world.tls is None:  # Python's ssl can not read any more
            answer = await asyncio.to_thread(peer.read_to_end)
            assert [f"page {number}".encode() in answer for number in (1, 2, 3)] == [True] * 3
        assert await events.reach(3) == ["made"] * 3
        peer.leave()


@on_each_loop
async def test_a_reset_behind_the_end_of_a_half_cancels_the_page(world: World) -> None:
    skip_halves(world)
    async with awaiting_a_page(world) as (peer, _, events):
        peer.finish()
        await turns(20)
        assert events.seen == []
        peer.reset()
        assert await events.reach(1) == ["cancelled"]


@pytest.mark.parametrize("how", ["leave", "reset"])
@on_each_loop
async def test_a_response_that_is_not_read(world: World, how: str) -> None:
    app, events = App(open_timeout=GUARD), Events()

    @app.get("/large")
    def large(request: Request) -> str:
        events.add("made")
        return "x" * 20_000_000

    async with world.listening(app) as server:
        peer = await world.connect(server)
        peer.send(request("/large"))
        await events.reach(1)  # it is written, and reading pauses, in the same call
        peer.send(request("/large"))
        ENDS[how][0](peer)
        await eventually(lambda: not server.protocols)
