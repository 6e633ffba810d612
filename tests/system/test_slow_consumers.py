"""Random stories over real sockets: who reads gets all that it should, in order and whole, whatever the others do.

Clients of two servers of one app stop reading and go on, vanish and are closed, while handlers, the test and another
thread send to them, with keys and without, compressed or not. In the end everyone reads, and what each has got is
compared with what it was sent: what is missing was refused, counts as dropped, or the close frame says 1013; and of
all the memory that was counted nothing is left.
"""

from __future__ import annotations

import asyncio
import random
import socket
import threading
import zlib
from contextlib import AsyncExitStack

import pytest
from support.certificates import Pair
from support.client import BINARY, CLOSE, GUARD, TEXT, Client, Frame, close_frame, frame, tcp
from support.events import on_each_loop, turns

from crest import App, Deflate, WebSocketConnection, WebSocketServer
from crest.io.out.hub import POLICIES
from crest.listening.listener import Listener

LOG = 1 << 16
"""Bytes of the log's block that a fan-out keeps; a server that compresses has two fan-outs."""

END = "the end"


class Peer:
    """One connection: the server's end, the client's, and what is known of it.

    Attributes:
        accepted: Messages that were sent or broadcast to it, in order; with the key of each, or None.
        refused: How many sends returned False while it was open.
        got: Messages that came, inflated; then perhaps its close frame's code.
        codes: What on_close was called with.
    """

    def __init__(self, conn: WebSocketConnection, ws: WebSocketServer) -> None:
        self.conn, self.ws = conn, ws
        self.client: Client
        self.accepted: dict[str, object] = {}
        self.refused = 0
        self.got: list[str] = []
        self.code: int | None = None
        self.codes: list[int] = []
        self.vanished = self.ended = False

    def is_there(self) -> bool:
        return not self.vanished and not self.client.writer.is_closing()

    async def collect(self) -> None:
        """Read until the end of the stream; a message that has no end there is none."""
        inflater = zlib.decompressobj(-15)
        try:
            while True:
                each: Frame = await self.client.frame()
                payload = each.payload
                if each.opcode == CLOSE:
                    self.code = each.code
                elif each.opcode in (TEXT, BINARY):
                    assert self.code is None, "nothing comes behind a close frame"
                    if each.rsv1:
                        payload = inflater.decompress(payload + b"\0\0\xff\xff")
                    self.got.append(payload.decode())
        except (asyncio.IncompleteReadError, ConnectionError):
            self.ended = True


class Story:
    """Two servers with the same policy, one of which compresses; `total` is the app's max_backlog_total."""

    def __init__(self, policy: str, seed: int, total: int | None) -> None:
        self.random = random.Random(seed)
        self.policy = policy
        self.peers: list[Peer] = []
        self.serial = 0
        self.over = False
        self.app = App(max_backlog_total=total)
        self.servers = [self.server("/plain", None), self.server("/compressed", Deflate(threshold=30))]
        for ws in self.servers:
            self.app.mount(ws.path, ws)

    def server(self, path: str, compression: Deflate | None) -> WebSocketServer:
        ws = WebSocketServer(
            path,
            max_backlog=self.random.choice([1, 20_000, 1 << 20]),
            on_backlog=self.policy,  # type: ignore[arg-type]
            compression=compression,
            close_timeout=2 * GUARD,
            ping_interval=None,
        )
        ws.on_connect(lambda conn: self.connected(conn, ws))
        ws.on_message(lambda conn, message: self.send(conn.state.peer))
        ws.on_drain(self.drained)
        ws.on_error(self.failed)
        ws.on_close(self.closed)
        return ws

    # ---- Handlers ------------------------------------------------------------------------------------------------

    def connected(self, conn: WebSocketConnection, ws: WebSocketServer) -> None:
        conn.state.peer = Peer(conn, ws)
        self.peers.append(conn.state.peer)

    def drained(self, conn: WebSocketConnection) -> None:
        assert conn.buffered == 0
        self.send(conn.state.peer)

    def failed(self, conn: WebSocketConnection, error: str) -> None:
        assert error.startswith("the peer reads too slowly"), error
        self.broadcast(conn.state.peer)

    def closed(self, conn: WebSocketConnection, code: int, reason: str) -> None:
        conn.state.peer.codes.append(code)
        assert not conn.send("to nobody")
        self.broadcast(conn.state.peer)

    # ---- What happens --------------------------------------------------------------------------------------------

    def payload(self) -> str:
        """One that no other message has."""
        self.serial += 1
        sizes = [0, 100, 118, 8190, 9000, 20_000, 65_530, 70_000, 300_000, 3 << 20]
        size = self.random.choices(sizes, [20, 20, 20, 20, 20, 5, 5, 5, 2, 1])[0]
        return f"{self.serial}:" + (self.random.choice(["é", "words "]) * size)[: size // 2]

    def send(self, peer: Peer) -> None:
        if self.over:
            return
        text, was_open = self.payload(), peer.conn.is_open()
        if peer.conn.send(text) if self.serial % 2 else peer.conn.send_binary(text.encode()):
            peer.accepted[text] = None
        elif was_open:
            peer.refused += 1

    def broadcast(self, peer: Peer) -> None:
        if self.over:
            return
        text, key = self.payload(), self.random.choice([None, "a", ("b", 1)])
        self.is_broadcast(peer.ws, text, key)
        peer.ws.broadcast(text, key=key)

    def is_broadcast(self, ws: WebSocketServer, text: str, key: object) -> None:
        for each in self.peers:
            if each.ws is ws and each.conn.is_open():
                each.accepted[text] = key

    def burst(self, peer: Peer) -> None:
        for _ in range(40):
            self.random.choice([self.send, self.broadcast])(peer)

    async def broadcast_elsewhere(self, peer: Peer) -> None:
        """From another thread; what happens then comes in the next turn."""
        loop, texts = asyncio.get_running_loop(), [self.payload() for _ in range(5)]

        def work() -> None:
            for text in texts:
                loop.call_soon_threadsafe(self.is_broadcast, peer.ws, text, "a")
                peer.ws.broadcast(text, key="a")

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        await turns(2)

    def close(self, peer: Peer) -> None:
        peer.conn.close(4000)

    # What a client does that is still there.

    def speak(self, peer: Peer) -> None:
        peer.client.writer.write(frame(TEXT, "hello"))

    def stop_reading(self, peer: Peer) -> None:
        peer.client.stop_reading()

    def read_on(self, peer: Peer) -> None:
        peer.client.read_on()

    def vanish(self, peer: Peer) -> None:
        peer.vanished = True
        if self.random.random() < 0.5:
            peer.client.reset()
        else:
            peer.client.writer.write(close_frame(4001))

    async def tell(self, steps: int) -> None:
        """Half of the peers only ever read and speak."""
        often = {self.send: 10, self.broadcast: 10, self.burst: 1, self.speak: 3, self.stop_reading: 4, self.read_on: 2}
        odds = often | {self.close: 0.2, self.vanish: 0.2, turns: 6, self.broadcast_elsewhere: 0.3}
        for step in self.random.choices(list(odds), list(odds.values()), k=steps):
            slow = step in (self.stop_reading, self.close, self.vanish)
            peer = self.random.choice(self.peers[::2] if slow else self.peers)
            if step is turns:
                await turns(self.random.choice([1, 2, 5]))
            elif step == self.broadcast_elsewhere:
                await self.broadcast_elsewhere(peer)
            elif peer.is_there() or step not in (self.speak, self.stop_reading, self.read_on, self.vanish):
                step(peer)  # type: ignore[operator]

    # ---- The end -------------------------------------------------------------------------------------------------

    async def end(self) -> None:
        """Everyone reads all there is; those who are still there get a last message, and nothing behind it."""
        self.over = True
        for peer in self.peers:
            if not peer.client.writer.is_closing():
                peer.client.read_on()
        waiting = list(self.peers)
        async with asyncio.timeout(GUARD):
            while waiting:
                await asyncio.sleep(0.001)
                for peer in waiting:
                    if peer.conn.is_open() and peer.conn.buffered == 0 and END not in peer.accepted:
                        assert peer.conn.send(END)
                        peer.accepted[END] = None
                waiting = [
                    each for each in waiting if not each.ended and each.code is None and END not in each.got[-1:]
                ]

    def check(self, peer: Peer) -> None:
        order = {text: number for number, text in enumerate(peer.accepted)}
        places = [order[text] for text in peer.got]  # KeyError: it is not what was sent
        keys = [peer.accepted[text] for text in peer.got]
        assert len(set(peer.got)) == len(peer.got)
        for keyed in (True, False) if self.policy == "latest" else (None,):
            seen = [place for place, key in zip(places, keys, strict=True) if keyed in (None, key is not None)]
            assert seen == sorted(seen)
        lost = peer.refused + len(order) - len(peer.got)
        if peer.vanished:
            return
        if peer.code is None and peer.ended:  # cut off: what the transport had is lost, and not known
            assert peer.codes == [1013]
            return
        assert peer.conn.dropped == lost
        if peer.code == 1013:
            assert peer.codes == [1013]
        elif self.policy == "close":
            assert lost == 0
        elif self.policy == "latest":
            newest = {key: text for text, key in peer.accepted.items() if key is not None}
            assert {text for text, key in peer.accepted.items() if key is None} | {*newest.values()} <= set(peer.got)


async def run(story: Story, direct: bool, pair: Pair | None) -> Listener:
    tls = {} if pair is None else {"certfile": pair.certfile, "keyfile": pair.keyfile}
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(story.app.listening(direct=direct, **tls))  # type: ignore[arg-type]
        for each in server.sockets:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 14)
        collecting = []
        for number in range(8):
            client = await stack.enter_async_context(
                tcp(server, receive_buffer=1 << 15 if number % 2 == 0 else None, tls=pair and pair.client())
            )
            offer = {"Sec-WebSocket-Extensions": "permessage-deflate"} if number % 3 else {}
            await client.upgrade(story.servers[number // 2 % 2].path, offer)
            story.peers[-1].client = client
            collecting.append(asyncio.create_task(story.peers[-1].collect()))
        await story.tell(250)
        await story.end()
        for peer in story.peers:
            story.check(peer)
        assert server.turn.budget.used <= 4 * LOG, "each fan-out keeps a block"
        for peer in story.peers:
            peer.client.writer.transport.abort()
        await asyncio.gather(*collecting)
    return server


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("policy", POLICIES)
@on_each_loop
async def test_with_memory_for_all(policy: str, direct: bool, seed: int) -> None:
    story = Story(policy, seed, None)
    server = await run(story, direct, None)
    assert [len(peer.codes) for peer in story.peers] == [1] * 8
    assert server.turn.budget.used % LOG == 0


@pytest.mark.parametrize("total", [1, 1_000_000])
@pytest.mark.parametrize("policy", POLICIES)
@on_each_loop
async def test_with_little(policy: str, direct: bool, total: int) -> None:
    story = Story(policy, total, total)
    server = await run(story, direct, None)
    assert [len(peer.codes) for peer in story.peers] == [1] * 8
    assert server.turn.budget.used % LOG == 0


@pytest.mark.parametrize("policy", POLICIES)
@on_each_loop
async def test_over_tls(policy: str, direct: bool, pair: Pair) -> None:
    story = Story(policy, 1, 2_000_000)
    server = await run(story, direct, pair)
    assert [len(peer.codes) for peer in story.peers] == [1] * 8
    assert server.turn.budget.used % LOG == 0
