"""crest.io.life.writing: what the loop's own transports do when writing goes on."""

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Any

import pytest
from conftest import Run
from support.client import handshake
from support.events import turns

from crest import App, WebSocketServer


class Told(asyncio.BufferedProtocol):
    """A connection's protocol, before whose resume_writing something else happens."""

    def __init__(self, protocol: Any, before: Callable[[], None]) -> None:
        self._protocol, self._before = protocol, before

    def __getattribute__(self, name: str) -> Any:
        if name in ("_protocol", "_before", "resume_writing"):
            return super().__getattribute__(name)
        return getattr(self._protocol, name)

    def resume_writing(self) -> None:
        self._before()
        self._protocol.resume_writing()


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


@pytest.mark.parametrize("waiting", [100, 1], ids=["much waits", "nothing waits"])
def test_a_peer_that_resets_when_there_is_room_again(
    run: Run[None], monkeypatch: pytest.MonkeyPatch, waiting: int
) -> None:
    """Then the next write fails. asyncio's transports would report the end twice, were it made in resume_writing."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        ws, conns, resumed = WebSocketServer(max_backlog=1 << 30), [], []
        events: list[object] = []
        ws.on_connect(conns.append)
        ws.on_drain(lambda conn: events.append("drain"))
        ws.on_close(lambda conn, code, reason: events.append(code))
        connect = loop.connect_accepted_socket

        def told() -> None:
            if not resumed:
                reset(client)
            resumed.append(list(events))

        def connecting(factory: Callable[[], Any], *args: Any, **options: Any) -> Any:
            return connect(lambda: Told(factory(), told), *args, **options)

        monkeypatch.setattr(loop, "connect_accepted_socket", connecting)
        async with App().listening(direct=False) as server:
            client = socket.socket()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            client.connect(server.address)
            client.setblocking(False)
            client.send(handshake("/ws"))
            while not conns:
                await turns()
            for _ in range(waiting):
                conns[0].send_binary(bytes(60_000 if waiting > 1 else 6_000_000))
            while not resumed:
                try:
                    client.recv(1 << 16)
                except BlockingIOError:
                    pass
                await turns()
            while 1006 not in events:
                await turns()
            assert resumed == [[]], "nothing has happened in resume_writing"
            assert events.count(1006) == 1

    run(main())
