"""crest.io.life.protocol and what it rests on, over real sockets, on each event loop and in both ways to write."""

import asyncio
import random
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import Run
from support.client import CLOSE, Frame, close_frame, handshake
from support.events import turns
from support.link import parse, text

from crest import App, WebSocketServer


class Peer:
    """A client that reads when the test's chance says so, through a receive buffer as small as the kernel allows."""

    def __init__(self, address: tuple[str, int], small: bool) -> None:
        self.sock = socket.socket()
        if small:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        self.sock.connect(address)
        self.sock.setblocking(False)
        self.stream = bytearray()
        self.ended = False
        self.wanted: list[bytes] = []

    def read(self, most: int) -> int:
        try:
            data = self.sock.recv(most)
        except BlockingIOError:
            return 0
        except ConnectionError:
            data = b""
        self.ended = self.ended or not data
        self.stream += data
        return len(data)

    def frames(self) -> list[Frame]:
        head, _, rest = bytes(self.stream).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        found, size = parse(rest)
        assert size == len(rest), "the stream ends within a frame"
        return found


def shrink_send_buffers(server: Any) -> None:
    """Sockets that are accepted inherit it."""
    for each in server.sockets:
        with socket.fromfd(each.fileno(), each.family, each.type) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2048)


@pytest.mark.parametrize("seed", range(8))
def test_every_interleaving_keeps_the_order(run: Run[None], direct: bool, seed: int) -> None:
    """Own sends, broadcasts and closes within turns and across them, with readers that stall and go on."""

    async def main() -> None:
        chance = random.Random(seed)
        ws, conns = WebSocketServer(max_backlog=1 << 30), []
        ws.on_connect(conns.append)
        async with App().listening(direct=direct) as server:
            shrink_send_buffers(server)
            peers = []
            for i in range(4):
                peers.append(Peer(server.address, small=i > 0))
                peers[-1].sock.send(handshake("/ws"))
                while len(conns) < len(peers):
                    await turns()
            for i in range(600):
                await step(chance, ws, list(zip(conns, peers, strict=True)), i)
            for conn, peer in zip(conns, peers, strict=True):
                conn.close(4000)
                peer.sock.send(close_frame(4000))
                peer.wanted.append(b"\x0f\xa0")
            while not all(peer.ended for peer in peers):
                for peer in peers:
                    peer.read(1 << 16)
                await turns()
            for peer in peers:
                peer.sock.close()
                got = [each.payload for each in peer.frames()]
                assert [each[:20] for each in got] == [each[:20] for each in peer.wanted]
                assert got == peer.wanted

    run(main())


async def step(chance: random.Random, ws: WebSocketServer, pairs: list[tuple[Any, Peer]], number: int) -> None:
    size = chance.choice([0, 100, 1000, 8190, 70_000 if chance.random() < 0.3 else 5])
    payload = b"%d:" % number + b"x" * size
    conn, peer = chance.choice(pairs)
    doing = chance.random()
    if doing < 0.35:
        assert conn.send(payload.decode())
        peer.wanted.append(payload)
    elif doing < 0.6:
        ws.broadcast_binary(payload)
        for _, each in pairs:
            each.wanted.append(payload)
    elif doing < 0.65:
        task = asyncio.create_task(send_later(conn, peer, payload))
        await task
    elif doing < 0.85:
        peer.read(chance.choice([100, 4000, 100_000]))
    else:
        await turns(chance.randint(1, 2))


async def send_later(conn: Any, peer: Peer, payload: bytes) -> None:
    await turns()
    assert conn.send_binary(bytearray(payload))
    peer.wanted.append(payload)


@pytest.mark.parametrize("many", [1, 5])
def test_an_echo_over_real_sockets(run: Run[None], direct: bool, many: int) -> None:
    """Frames that are sent together are answered, in order, however they are cut on their way."""

    async def main() -> None:
        ws = WebSocketServer(max_message_size=1 << 24, max_backlog=1 << 30)
        ws.on_message(lambda conn, message: conn.send(message))
        sizes = [0, 125, 126, 65_535, 65_536, 300_000, 3_000_000]
        async with App().listening(direct=direct) as server:
            reader, writer = await asyncio.open_connection(*server.address, limit=1 << 25)
            writer.write(handshake("/ws") + b"".join(text("ä" * size) * many for size in sizes) + close_frame(1000))
            _, _, rest = (await reader.read()).partition(b"\r\n\r\n")
            writer.close()
            await writer.wait_closed()
            frames, size = parse(rest)
            assert size == len(rest)
            wanted = ["ä" * size for size in sizes for _ in range(many)]
            assert [each.payload.decode() for each in frames[:-1]] == wanted
            assert frames[-1] == Frame(CLOSE, b"\x03\xe8")

    run(main())


def test_a_lone_send_of_a_task_leaves_at_once(run: Run[None], direct: bool) -> None:
    """No other event comes to the server: neither from its peer nor from a timer."""

    async def main() -> None:
        ws, connected = WebSocketServer(), asyncio.get_running_loop().create_future()
        ws.on_connect(connected.set_result)
        async with App().listening(direct=direct) as server:
            reader, writer = await asyncio.open_connection(*server.address)
            writer.write(handshake("/ws"))
            await reader.readuntil(b"\r\n\r\n")
            conn = await connected
            conn.send("own")
            assert await reader.readexactly(5) == b"\x81\x03own"
            ws.broadcast("all")
            assert await reader.readexactly(5) == b"\x81\x03all"
            writer.write(close_frame(1000))
            assert await reader.read() == b"\x88\x02\x03\xe8"
            writer.close()
            await writer.wait_closed()

    run(main())


SOAK = Path(__file__).parents[2] / "soak" / "runner.py"


@pytest.mark.parametrize("options", [["--loop", "uvloop"], ["--loop", "asyncio"], ["--loop", "asyncio", "--transport"]])
def test_soak(options: list[str]) -> None:
    """Two hundred clients that do anything; the script runs as long as one likes."""
    pytest.importorskip(options[1])
    command = [sys.executable, str(SOAK), "--clients", "200", "--seed", "1", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
