"""crest.cluster.worker: what the clients of several workers get from each other."""

import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from support.client import GUARD
from support.events import on_each_loop
from support.workers import Workers, workers
from websockets.sync.client import ClientConnection, connect

from crest import App
from crest.cluster.enlisted import Enlisted
from crest.cluster.shared import ENTRIES, make_shared
from crest.cluster.sharing import Sharing
from crest.cluster.worker import Reporter
from crest.lifetime import Lifetime
from crest.running import Run

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no workers on Windows")

SOURCE = """
@ws.on_binary
def called(conn, data):
    name, *words = data.decode().split(" ")
    if name == "join":
        conn.join(words[0])
    elif name == "user":
        conn.user = words[0]
    elif name == "room":
        ws.broadcast(words[1], to=words[0], exclude=conn)
    elif name == "to-user":
        ws.broadcast(words[1], to=ws.user(words[0]))
    elif name == "local":
        ws.broadcast(words[0], local=True)
    elif name == "key":
        try:
            ws.broadcast(words[0], key=(1, 2))
        except TypeError as error:
            conn.send(str(error))
        return
    elif name == "count":
        for number in range(int(words[0])):
            ws.broadcast(str(number))
    else:
        ws.broadcast(words[0])
    conn.send("done")

app.run(port=0, workers=2)
"""


class Client:
    """A client, and which worker it is at."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        connection.send("who?")
        self.process = int(self.next())

    def next(self) -> str:
        return str(self._connection.recv(timeout=GUARD))

    def call(self, *words: str) -> None:
        """Have the worker do something, and wait until it is done. What comes before that is not lost."""
        self._connection.send(" ".join(words).encode())

    def until(self, last: str) -> list[str]:
        """What comes, up to this message."""
        found = [self.next()]
        while found[-1] != last:
            found.append(self.next())
        return found


@contextmanager
def clients(program: Workers) -> Iterator[tuple[Client, Client, Client]]:
    """Two clients at one worker, and one at the other."""
    with ExitStack() as stack:
        found: dict[int, list[Client]] = {}
        while len(found) < 2 or max(map(len, found.values())) < 2:
            connection = stack.enter_context(connect(f"ws://127.0.0.1:{program.port}/ws", open_timeout=GUARD))
            client = Client(connection)
            found.setdefault(client.process, []).append(client)
        fewer, more = sorted(found.values(), key=len)
        yield more[0], more[1], fewer[0]


@pytest.fixture(scope="module")
def program() -> Iterator[Workers]:
    with workers(SOURCE) as started:
        started.serve(2)
        yield started


def reach(one: Client, other: Client) -> None:
    """Wait until the interest of one worker in rooms is known: what it publishes after that comes behind it."""
    one.call("all", "known")
    other.until("known")


def test_a_broadcast_reaches_all_workers_in_order(program: Workers) -> None:
    with clients(program) as (one, neighbour, other):
        one.call("count", "2000")
        expected = list(map(str, range(2000)))
        assert one.until("done") == [*expected, "done"]
        assert neighbour.until("1999") == other.until("1999") == expected


def test_rooms_span_workers_and_exclude_the_sender(program: Workers) -> None:
    with clients(program) as (one, neighbour, other):
        for client in (one, other):
            client.call("join", "lobby")
            client.until("done")
        reach(other, one)
        one.call("room", "lobby", "hello")
        one.call("all", "end")
        assert "hello" in other.until("end")
        assert "hello" not in neighbour.until("end")
        assert "hello" not in one.until("end")


def test_users_span_workers(program: Workers) -> None:
    with clients(program) as (one, _, other):
        other.call("user", "alice")
        other.until("done")
        reach(other, one)
        one.call("to-user", "alice", "for-alice")
        one.until("done")
        assert "for-alice" in other.until("for-alice")


def test_local_broadcasts_stay(program: Workers) -> None:
    with clients(program) as (one, neighbour, other):
        one.call("local", "here")
        assert one.until("done") == ["here", "done"]
        one.call("all", "everywhere")
        assert neighbour.until("everywhere") == ["here", "everywhere"]
        assert other.until("everywhere") == ["everywhere"]


def test_a_key_that_can_not_travel_is_refused(program: Workers) -> None:
    with clients(program) as (one, _, _):
        one.call("key", "text")
        assert "must be str, bytes or int, not tuple" in one.next()


def test_when_the_exchange_is_killed_another_one_takes_its_place() -> None:
    with workers(SOURCE) as program:
        program.serve(2)
        with clients(program) as (one, neighbour, other):
            one.call("all", "before")
            other.until("before")
            os.kill(program.exchange(), signal.SIGKILL)
            program.until(r"The exchange has ended: SIGKILL; the next one starts in \d")
            one.call("all", "between")  # waits for the next one
            assert other.until("between") == neighbour.until("between")[-1:]


@on_each_loop
async def test_an_exchange_may_come_before_the_servers_are_known() -> None:
    """The next one takes its place; what is not used is closed."""
    supervisor, mine = socket.socketpair()
    lifetime = Lifetime()
    reporter = Reporter(Enlisted(1, 1, 1, mine.detach(), -1, 0, 1, ()), Run(lifetime), lifetime, [])
    first, second = os.pipe()
    reporter._hear({"exchange": True}, [first])
    assert not is_closed(first)
    reporter._hear({"exchange": True}, [second])
    assert is_closed(first) and not is_closed(second)
    reporter.close()
    assert is_closed(second)
    supervisor.close()


@on_each_loop
async def test_more_addresses_than_memory_is_shared_for_are_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    async with App().listening() as server:
        descriptor = make_shared(2)
        sharing = Sharing(server, Enlisted(1, 1, 2, -1, descriptor, 0, 2, ()))
        os.close(descriptor)
        sharing.look()
        assert not caplog.messages
        for account in range(1, ENTRIES + 1):
            sharing._memory.ledger.write(account, 1)
        sharing.look()
        sharing.look()
        (message,) = caplog.messages
        assert message.startswith(
            f"More clients and addresses are counted than memory is shared for ({ENTRIES * 3 // 4})"
        )
        sharing.close()


def is_closed(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return True
    return False
