"""A message that is sent while nothing else happens leaves at once: no later event has to push it out.

The client is a blocking socket in a thread of its own, so that the server's loop has nothing to do but what the test
says; a message that is held back is one that never comes.
"""

import asyncio
import socket
import threading
from collections.abc import Callable

import pytest
from support.client import GUARD, handshake
from support.events import on_each_loop

from crest import App, WebSocketConnection, WebSocketServer

ALONE = b"\x81\x05alone"


def first_bytes(port: int) -> bytes:
    """Open a WebSocket, and return what the server sends behind its response."""
    with socket.create_connection(("127.0.0.1", port), GUARD) as client:
        client.sendall(handshake())
        data = b""
        while len(data.partition(b"\r\n\r\n")[2]) < len(ALONE):
            chunk = client.recv(4096)
            assert chunk, f"the connection ended after {data!r}"
            data += chunk
        return data.partition(b"\r\n\r\n")[2]


async def some_turns_later(send: Callable[[], object]) -> None:
    for _ in range(5):
        await asyncio.sleep(0)
    send()


def by_a_task(conn: WebSocketConnection, ws: WebSocketServer) -> None:
    conn.state.task = asyncio.create_task(some_turns_later(lambda: conn.send("alone")))


def by_a_task_that_broadcasts(conn: WebSocketConnection, ws: WebSocketServer) -> None:
    conn.state.task = asyncio.create_task(some_turns_later(lambda: ws.broadcast("alone")))


def by_a_timer(conn: WebSocketConnection, ws: WebSocketServer) -> None:
    asyncio.get_running_loop().call_later(0.001, conn.send, "alone")


def by_a_thread(conn: WebSocketConnection, ws: WebSocketServer) -> None:
    threading.Thread(target=conn.send, args=("alone",)).start()


def by_a_thread_that_broadcasts(conn: WebSocketConnection, ws: WebSocketServer) -> None:
    threading.Thread(target=ws.broadcast, args=("alone",)).start()


WAYS = [by_a_task, by_a_task_that_broadcasts, by_a_timer, by_a_thread, by_a_thread_that_broadcasts]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@on_each_loop
async def test_a_lone_message_leaves(way: Callable[[WebSocketConnection, WebSocketServer], None], direct: bool) -> None:
    ws = WebSocketServer()
    ws.on_connect(lambda conn: way(conn, ws))
    async with App().listening(direct=direct) as server:
        assert await asyncio.to_thread(first_bytes, server.port) == ALONE
