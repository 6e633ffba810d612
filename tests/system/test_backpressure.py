"""Slow readers and slow handlers, over real sockets: what waits is bounded, and nobody else notices.

The large test runs a server in a process of its own, this file as a program, and looks at that process's memory.
"""

import asyncio
import json
import selectors
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.client import CLOSE, GUARD, TEXT, Client, Frame, close_frame, frame, handshake, tcp, upgraded
from support.events import Events, on_each_loop

from crest import App, WebSocketServer

MIB = 1 << 20

# --- One slow reader


async def stalled(client: Client, ws: WebSocketServer, events: Events) -> Any:
    """Upgrade a client that does not read, and send it what the kernel takes; returns its connection."""
    await client.upgrade()
    client.stop_reading()
    conn = ws.get_connections()[-1]
    while conn.buffered < 100_000:
        assert conn.send("x" * 10_000)
        events.add("sent")
        await asyncio.sleep(0)
    return conn


@on_each_loop
async def test_past_the_limit_the_connection_is_closed(direct: bool) -> None:
    ws, events, sent = WebSocketServer(), Events(), Events()
    ws.on_error(lambda conn, error: events.add("error", str(error)))
    ws.on_close(lambda conn, code, reason: events.add("close", code))
    listening = App().listening(direct=direct)
    async with listening as server, tcp(server, receive_buffer=2048) as client, upgraded(server) as other:
        conn = await stalled(client, ws, sent)
        while conn.send("x" * 10_000):
            sent.add("sent")
            assert conn.buffered <= MIB
        assert conn.buffered > MIB - 20_000, "the default limit"
        assert not conn.is_open() and not conn.send("x")
        ws.broadcast("others go on")
        assert await other.frame() == Frame(TEXT, b"others go on")
        await events.reach(2)
        client.read_on()
        *messages, close = await client.until_close()
        assert messages == [Frame(TEXT, b"x" * 10_000)] * len(sent.seen), "what was accepted arrives"
        assert (close.opcode, close.code) == (CLOSE, 1013)
        assert await client.eof() == b""
    (_, error), closed, _ = events.seen
    assert error == close.reason == f"the peer reads too slowly: max_backlog is {MIB} bytes"
    assert closed == ("close", 1013)


@on_each_loop
async def test_or_the_newest_message_is_dropped(direct: bool) -> None:
    ws, sent = WebSocketServer(max_backlog=300_000, on_backlog="drop"), Events()
    async with App().listening(direct=direct) as server, tcp(server, receive_buffer=2048) as client:
        conn = await stalled(client, ws, sent)
        while conn.send("x" * 10_000):
            sent.add("sent")
        assert conn.send("small"), "one that fits is taken"
        assert not conn.send("x" * 10_000)
        ws.broadcast("x" * 10_000)
        await asyncio.sleep(0)
        assert conn.dropped == 3 and conn.is_open()
        client.read_on()
        for _ in sent.seen:
            assert await client.frame() == Frame(TEXT, b"x" * 10_000)
        assert await client.frame() == Frame(TEXT, b"small")
        assert conn.buffered == 0
        assert conn.send("y" * 10_000)
        assert await client.frame() == Frame(TEXT, b"y" * 10_000)
        await client.send(close_frame(1000))
        assert (await client.frame()).code == 1000


@on_each_loop
async def test_a_slow_reader_catches_up_in_order(direct: bool) -> None:
    """Own sends and broadcasts that waited arrive in the order of the calls."""
    ws, sent = WebSocketServer(), Events()
    async with App().listening(direct=direct) as server, tcp(server, receive_buffer=2048) as client:
        conn = await stalled(client, ws, sent)
        for i in range(500):
            assert conn.send(f"own {i}")
            ws.broadcast(f"all {i}")
            if i % 3 == 0:
                await asyncio.sleep(0)
        client.read_on()
        for _ in sent.seen:
            await client.frame()
        got = [(await client.frame()).payload.decode() for _ in range(1000)]
        assert got == [f"{who} {i}" for i in range(500) for who in ("own", "all")]


# --- One slow handler


@on_each_loop
async def test_while_a_handler_is_behind_its_peer_is_not_read(direct: bool) -> None:
    ws, handled, gate = WebSocketServer(max_queue=4), [], asyncio.Event()

    @ws.on_message
    async def received(conn: object, message: str) -> None:
        await gate.wait()
        handled.append(message)

    async with App().listening(direct=direct) as server:
        for each in server.sockets:  # accepted sockets inherit it
            with socket.fromfd(each.fileno(), each.family, each.type) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        async with tcp(server) as client:
            await client.upgrade()
            client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
            messages = [f"{i:05}" * 2000 for i in range(1000)]
            client.writer.write(b"".join(frame(TEXT, message) for message in messages))
            transport = client.writer.transport
            unchanged, before = 0, 0
            while unchanged < 500:
                await asyncio.sleep(0)
                left = transport.get_write_buffer_size()
                unchanged, before = (unchanged + 1 if left == before else 0), left
            assert left > 8 * MIB, "all but what the kernel and one read hold is still the peer's"
            assert handled == []
            async with tcp(server) as other:
                await other.upgrade()
                await other.round_trip()
            gate.set()
            await client.send(frame(0x9, b"last"))
            assert (await client.frame()).payload == b"last"
            await client.send(close_frame(1000))
            await client.frame()
    assert handled == messages


# --- A thousand of them

STALLED, READING, BROADCASTS, BATCH = 1000, 50, 10_000, 100
AWAKE = 100
"""So many of the stalled read on in the end; what happened to the others the server says."""
SIZE = 1024
FRAME = 4 + SIZE
KEYS = 10
NEW = b"\x82\x03new"


def payload(number: int, size: int) -> str:
    return f"{number:08}".ljust(size, ".")


def expected(size: int) -> bytes:
    """What who reads gets."""
    head = bytes([0x81, size]) if size < 126 else b"\x81\x7e" + size.to_bytes(2, "big")
    return b"".join(head + payload(i, size).encode() for i in range(BROADCASTS))


def serve(policy: Any, loop: str, max_backlog: str, size: str) -> None:
    """The server: what its control connection says, to all of the others."""
    ws = WebSocketServer(on_backlog=policy, max_backlog=int(max_backlog), close_timeout=60)
    control = WebSocketServer("/control")
    counts = {
        "errors": 0,
    }
    codes: dict[int, int] = {}

    @ws.on_error
    def failed(conn: Any, error: str) -> None:
        counts["errors"] += "max_backlog" in error

    @ws.on_close
    def closed(conn: Any, code: int, reason: str) -> None:
        codes[code] = codes.get(code, 0) + 1

    @control.on_message
    def received(conn: Any, message: str) -> None:
        if message == "new":
            ws.broadcast_binary(b"new")
        elif message != "status":
            for i in range(int(message), int(message) + BATCH):
                ws.broadcast(payload(i, int(size)), key=i % KEYS)
        waiting = [each.buffered for each in ws.get_connections()]
        dropping = sum(each.dropped > 0 for each in ws.get_connections())
        now = {"open": len(waiting), "idle": waiting.count(0), "dropping": dropping, "codes": codes}
        now["most"] = max(waiting, default=0)
        conn.send(json.dumps({**counts, **now}))

    async def main() -> None:
        async with App().listening() as server:
            for each in server.sockets:
                with socket.fromfd(each.fileno(), each.family, each.type) as sock:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
            print(server.port, flush=True)
            await asyncio.to_thread(sys.stdin.read)

    if loop == "uvloop":
        import uvloop

        uvloop.run(main())
    else:
        asyncio.run(main())


class Reader:
    """A client that compares what it gets with what was broadcast."""

    def __init__(self, port: int, wanted: bytes, receive_buffer: int | None = None) -> None:
        self.sock = socket.socket()
        if receive_buffer is not None:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            # The loopback device's segments of 64 KiB would not fit: the window would open by timers only.
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1400)
        self.sock.connect(("127.0.0.1", port))
        self.sock.sendall(handshake("/ws"))
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self.sock.recv(1)
        self.sock.setblocking(False)
        self.wanted = wanted
        self.frame = len(wanted) // BROADCASTS or 1
        self.position = 0
        self.rest = b""
        """What came instead of the next broadcast, and after that."""
        self.ended = False

    def read(self) -> None:
        try:
            data = self.sock.recv(1 << 18)
        except BlockingIOError:
            return
        self.ended = not data
        if not self.rest and data == self.wanted[self.position : self.position + len(data)]:
            self.position += len(data)
        elif data:
            same = 0
            if not self.rest:
                wanted = self.wanted[self.position : self.position + len(data)]
                same = next((i for i, (a, b) in enumerate(zip(data, wanted, strict=False)) if a != b), len(wanted))
                begun = (self.position + same) % self.frame
                self.position += same - begun
                self.rest = self.wanted[self.position : self.position + begun]
            self.rest += data[same:]

    def more(self) -> list[int]:
        """The numbers of the broadcasts in `rest`, but for what is not one at its end."""
        numbers = []
        while self.rest[:1] == b"\x81":
            numbers.append(int(self.rest[4:12]))
            at = numbers[-1] * self.frame
            assert self.rest.startswith(self.wanted[at : at + self.frame])
            self.rest = self.rest[self.frame :]
        return numbers


class Control:
    """The control connection: says something, returns the answer."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port))
        self.sock.settimeout(GUARD)
        self.sock.sendall(handshake("/control"))
        self.file = self.sock.makefile("rb")
        while self.file.readline() != b"\r\n":
            pass

    def say(self, message: str) -> dict[str, Any]:
        self.sock.sendall(frame(TEXT, message))
        head = self.file.read(2)
        size = head[1] if head[1] < 126 else int.from_bytes(self.file.read(2), "big")
        answer: dict[str, Any] = json.loads(self.file.read(size))
        return answer

    def close(self) -> None:
        self.file.close()
        self.sock.close()


@contextmanager
def process(*arguments: str) -> Iterator[tuple[int, int]]:
    """This file as a program; its process id and port."""
    command, pipe = [sys.executable, "-m", "system.test_backpressure", *arguments], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, cwd=Path(__file__).parents[1]) as server:
        assert server.stdin is not None and server.stdout is not None
        try:
            yield server.pid, int(server.stdout.readline())
            server.stdin.close()
            assert server.wait(GUARD) == 0
        finally:
            server.kill()


def memory(pid: int, name: str) -> int:
    """VmRSS, or VmHWM, the most there was, in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise LookupError(name)


def read_until(readers: list[Reader], done: Callable[[Reader], bool]) -> None:
    """Read whatever comes, until all of them are done."""
    with selectors.DefaultSelector() as selector:
        left = {reader for reader in readers if not done(reader)}
        for reader in left:
            selector.register(reader.sock, selectors.EVENT_READ, reader)
        while left:
            ready = selector.select(GUARD)
            assert ready, f"{len(left)} readers wait for more"
            for key, _ in ready:
                key.data.read()
                if done(key.data):
                    selector.unregister(key.fileobj)
                    left.discard(key.data)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="a process's memory is read from /proc")
@pytest.mark.parametrize(("policy", "loop"), [("close", "uvloop"), ("drop", "asyncio")])
def test_a_thousand_stalled_readers(policy: str, loop: str) -> None:
    """1000 of them during 10,000 broadcasts of 1 KiB: memory is bounded, and everybody else gets everything."""
    pytest.importorskip(loop)
    wanted = expected(SIZE)
    with process(policy, loop, str(MIB), str(SIZE)) as (pid, port), ExitStack() as stack:
        control = Control(port)
        stack.callback(control.close)
        slow = [Reader(port, wanted, receive_buffer=1 << 16) for _ in range(STALLED)]
        quick = [Reader(port, wanted) for _ in range(READING)]
        for reader in (*slow, *quick):
            stack.callback(reader.sock.close)
        assert control.say("status")["open"] == STALLED + READING
        before = memory(pid, "VmRSS")

        for number in range(0, BROADCASTS, BATCH):
            control.say(str(number))
            until = (number + BATCH) * FRAME
            read_until(quick, lambda reader: reader.position >= until)  # noqa: B023 - it is called here only
        assert all(reader.position == len(wanted) and not reader.rest for reader in quick)

        grown = memory(pid, "VmHWM") - before
        assert grown < STALLED * MIB + 64 * MIB, "the bound"
        assert grown < STALLED * (1 << 17) + 64 * MIB, "what waits is shared, but for the slice that a transport has"

        status = control.say("status")
        awake = slow[:: STALLED // AWAKE]
        if policy == "close":
            assert (status["open"], status["errors"], status["codes"]) == (READING, STALLED, {"1013": STALLED})
            read_until(awake, lambda reader: reader.ended)
            for reader in awake:
                assert reader.rest[:1] == b"\x88" and reader.rest[2:4] == (1013).to_bytes(2, "big")
                assert len(reader.rest) == 2 + reader.rest[1], "the close frame is the last"
        else:
            assert (status["open"], status["errors"], status["codes"]) == (READING + STALLED, 0, {})
            assert status["dropping"] == STALLED
            while control.say("status")["idle"] < READING + AWAKE:
                for reader in awake:
                    reader.read()
            control.say("new")
            read_until([*awake, *quick], lambda reader: reader.rest.endswith(NEW))
            for reader in awake:  # the kernel may have taken something while others were dropped
                numbers = reader.more()
                assert numbers == sorted(set(numbers)) and min(numbers, default=BROADCASTS) > reader.position // FRAME
            assert {reader.rest for reader in (*awake, *quick)} == {NEW}
        assert all(MIB / 2 < reader.position < len(wanted) for reader in awake)


NEVER, ALWAYS = 100, 900
SMALL, LIMIT = 64, 1 << 17
SLICE = 1 << 16
"""Bytes that a transport has at most."""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="a process's memory is read from /proc")
@pytest.mark.parametrize(
    ("policy", "loop"),
    [("close", "asyncio"), ("drop-newest", "uvloop"), ("drop-oldest", "asyncio"), ("latest", "uvloop")],
)
def test_a_hundred_of_a_thousand_never_read(policy: str, loop: str) -> None:
    """10,000 broadcasts: the 900 others get all, in order; what waits for the 100 is bounded, as the policy says."""
    pytest.importorskip(loop)
    wanted, step = expected(SMALL), 2 + SMALL
    with process(policy, loop, str(LIMIT), str(SMALL)) as (pid, port), ExitStack() as stack:
        control = Control(port)
        stack.callback(control.close)
        slow = [Reader(port, b"", receive_buffer=1 << 14) for _ in range(NEVER)]
        quick = [Reader(port, wanted) for _ in range(ALWAYS)]
        for reader in (*slow, *quick):
            stack.callback(reader.sock.close)
        before = memory(pid, "VmRSS")
        for number in range(0, BROADCASTS, BATCH):
            assert control.say(str(number))["most"] <= LIMIT + SLICE + BATCH * step
            until = (number + BATCH) * step
            read_until(quick, lambda reader: reader.position >= until)  # noqa: B023 - it is called here only
        assert all(reader.position == len(wanted) and not reader.rest for reader in quick)
        status = control.say("status")
        assert status["most"] <= LIMIT + SLICE
        assert memory(pid, "VmHWM") - before < NEVER * (LIMIT + SLICE) + 16 * MIB

        if policy == "close":
            assert (status["open"], status["errors"], status["codes"]) == (ALWAYS, NEVER, {"1013": NEVER})
            read_until(slow, lambda reader: reader.ended)
            for reader in slow:
                messages, close, rest = reader.rest.partition(b"\x88")
                assert messages == wanted[: len(messages)] and len(messages) % step == 0
                assert close and rest[1:3] == (1013).to_bytes(2, "big") and len(rest) == 1 + rest[0]
            return
        assert (status["open"], status["errors"], status["codes"]) == (NEVER + ALWAYS, 0, {})
        while control.say("status")["idle"] < NEVER + ALWAYS:
            for reader in slow:
                reader.read()
        control.say("new")
        read_until(slow, lambda reader: reader.rest.endswith(NEW))
        for reader in slow:
            frames = reader.rest.removesuffix(NEW)
            got = [int(frames[at + 2 : at + 10]) for at in range(0, len(frames), step)]
            assert frames == b"".join(wanted[number * step : (number + 1) * step] for number in got), "whole frames"
            assert got == sorted(set(got)) and len(got) < BROADCASTS, "in order, and not all"
            if policy == "drop-newest":
                assert got[:1000] == list(range(1000))
            elif policy == "drop-oldest":
                assert got[-1000:] == list(range(BROADCASTS))[-1000:]
            else:
                assert got[-KEYS:] == list(range(BROADCASTS))[-KEYS:]


if __name__ == "__main__":
    serve(*sys.argv[1:])
