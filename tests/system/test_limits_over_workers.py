"""Limits that hold for all workers together, and what is left of them when a worker is killed."""

import os
import re
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest
from support.client import BINARY, GUARD, TEXT, frame, handshake
from support.link import parse
from support.workers import PROGRAM, Workers, running
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no workers on Windows")

ALICE, BOB = "127.0.0.1", "127.0.0.2"

FILL = """
@ws.on_binary
def fill(conn, data):
    conn.send_binary(bytes(int(data)))
"""


@contextmanager
def serving(server: str = "", app: str = "") -> Iterator[tuple[Workers, dict[int, int]]]:
    """Two workers, of whose processes one knows the numbers. The arguments are options as they are written."""
    source = PROGRAM.replace("WebSocketServer()", f"WebSocketServer({server})")
    source = source.replace("shutdown_timeout=2", f"shutdown_timeout=2, {app}")
    with running(source + FILL + "app.run(port=0, workers=2)\n") as program:
        yield program, program.serve(2)


class Clients:
    """Clients that come, until they go all together."""

    def __init__(self, program: Workers) -> None:
        self._program = program
        self._stack = ExitStack()
        self.at: dict[int, list[ClientConnection]] = {}
        """By the worker's process."""

    def __enter__(self) -> "Clients":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def come(self, address: str = ALICE) -> int:
        """One more. Returns the status of the response."""
        url, source = f"ws://127.0.0.1:{self._program.port}/ws", (address, 0)
        try:
            connection = self._stack.enter_context(connect(url, open_timeout=GUARD, source_address=source))
        except InvalidStatus as refused:
            return refused.response.status_code
        connection.send("who?")
        self.at.setdefault(int(connection.recv(timeout=GUARD)), []).append(connection)
        return 101

    def leave(self, process: int) -> None:
        for connection in self.at.pop(process):
            connection.close()


def test_connections_of_all_and_of_each_address() -> None:
    options = "max_connections=6, max_connections_per_ip=4"
    with serving(options) as (program, processes), Clients(program) as clients:
        assert [clients.come() for _ in range(5)] == [101] * 4 + [429]
        assert [clients.come(BOB) for _ in range(3)] == [101] * 2 + [503]
        assert set(clients.at) == set(processes.values()), "some are at each"
        program.until("503, there are too many connections")
        clients.leave(processes[1])
        while clients.come(BOB) == 503:  # until the worker knows that they are gone
            pass


def test_a_worker_that_is_killed_leaves_no_seats_taken() -> None:
    with serving("max_connections=6") as (program, processes), Clients(program) as clients:
        assert [clients.come() for _ in range(7)] == [101] * 6 + [503]
        lost = len(clients.at[processes[1]])
        os.kill(processes[1], signal.SIGKILL)
        program.until(r"worker 1 .* has ended", "^started 1 ")
        assert [clients.come() for _ in range(lost + 1)] == [101] * lost + [503]


def test_how_often_an_address_may_connect() -> None:
    with serving("max_connect_rate_per_ip=(0.001, 5)") as (program, processes), Clients(program) as clients:
        assert [clients.come() for _ in range(7)] == [101] * 5 + [429] * 2
        assert set(clients.at) == set(processes.values())
        assert clients.come(BOB) == 101


def test_sockets_of_one_address() -> None:
    with serving(app="max_sockets_per_ip=3") as (program, _):
        address = "127.0.0.1", program.port
        with ExitStack() as stack:
            for _ in range(3):
                sock = stack.enter_context(socket.create_connection(address, GUARD))
                sock.sendall(b"GET /ws HTTP/1.1\r\nHost: test\r\n\r\n")
                assert sock.recv(100).startswith(b"HTTP/1.1 4")
            more = stack.enter_context(socket.create_connection(address, GUARD))
            assert more.recv(100) == b""
            program.until("max_sockets_per_ip")


class Silent:
    """A client that reads only when the test says so, with little room in its kernel."""

    def __init__(self, program: Workers) -> None:
        self.sock = socket.socket()
        self.sock.settimeout(GUARD)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.sock.connect(("127.0.0.1", program.port))
        self.sock.sendall(handshake("/ws") + frame(TEXT, "who?"))
        _, _, data = self.read(lambda data: parse(data.partition(b"\r\n\r\n")[2])[0]).partition(b"\r\n\r\n")
        self.process = int(parse(data)[0][0].payload)

    def read(self, whole: Callable[[bytearray], object]) -> bytearray:
        data = bytearray()
        while not whole(data):
            data += self.sock.recv(1 << 20)
        return data


def test_what_waits() -> None:
    """A worker may have all of it while the others have nothing, and the one gives way that has more than its share."""
    options = "max_backlog=1 << 30", "max_backlog_total=30_000_000"
    with serving(*options) as (program, processes), ExitStack() as stack:
        at: dict[int, Silent] = {}
        while len(at) < 2:
            silent = Silent(program)
            stack.enter_context(silent.sock)
            at[silent.process] = silent
        one, other = (at[processes[number]] for number in (1, 2))
        one.sock.sendall(frame(BINARY, "28000000"))
        other.sock.sendall(frame(BINARY, "10000000"))
        line = program.until("slow connections")[0]
        assert re.search(r"\[worker 1\].* max_backlog_total is 30000000: of 1 slow connections 1 are closed", line)
        other.read(lambda data: len(data) == 10_000_010)
