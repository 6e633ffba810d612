"""The load generator of benches/load must fail when a server gets one byte, one message or one header wrong.

A server in this process does one thing wrong on purpose; what it should have sent is written here independently.
"""

import asyncio
import base64
import hashlib
import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

LOAD = Path(__file__).parents[2] / "benches" / "load"
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
WRONG = 5  # the number of the message that is treated wrongly
GUARD = 60  # seconds after which a run hangs

if sys.platform != "linux":
    pytest.skip("the load generator needs epoll", allow_module_level=True)
if shutil.which("make") is None or shutil.which(os.environ.get("CC", "cc")) is None:
    pytest.skip("no make or no C compiler", allow_module_level=True)


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("load")
    subprocess.run(["make", "--silent", "-C", str(LOAD), f"OUT={directory}"], check=True)
    return directory / "load"


def frame(opcode: int, payload: bytes, *, fin: bool = True, rsv: int = 0) -> bytes:
    size = len(payload)
    if size < 126:
        length = bytes([size])
    elif size < 1 << 16:
        length = struct.pack("!BH", 126, size)
    else:
        length = struct.pack("!BQ", 127, size)
    return bytes([fin << 7 | rsv << 4 | opcode]) + length + payload


def response(key: bytes) -> bytes:
    accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )


@dataclass
class Connection:
    """One connection of the server, and what it answers; a test replaces one of its methods."""

    index: int
    writer: asyncio.StreamWriter
    sent: int = 0
    held: bytes = b""
    pongs: list[bytes] = field(default_factory=list)

    def opened(self, response: bytes) -> bytes:
        return response

    def delivered(self, opcode: int, payload: bytes) -> bytes:
        """The bytes that deliver message number `sent` to this connection."""
        return frame(opcode, payload)

    def closed(self, payload: bytes) -> bytes:
        return frame(CLOSE, payload)


async def read_frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    first, second = await reader.readexactly(2)
    assert first & 0xF0 == 0x80
    assert second & 0x80
    size = second & 0x7F
    if size == 126:
        (size,) = struct.unpack("!H", await reader.readexactly(2))
    elif size == 127:
        (size,) = struct.unpack("!Q", await reader.readexactly(8))
    key = await reader.readexactly(4)
    masked = await reader.readexactly(size)
    mask = (key * (size // 4 + 1))[:size]
    return first & 0x0F, (int.from_bytes(masked, "big") ^ int.from_bytes(mask, "big")).to_bytes(size, "big")


@dataclass
class Server:
    """Echoes or broadcasts by `Connection`s of the given class."""

    connection: type[Connection] = Connection
    broadcast: bool = False
    connections: list[Connection] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = self.connection(len(self.connections), writer)
        self.connections.append(connection)
        try:
            request = await reader.readuntil(b"\r\n\r\n")
            key = request.partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r\n")[0]
            writer.write(connection.opened(response(key)))
            while True:
                self.received(connection, *await read_frame(reader))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def received(self, connection: Connection, opcode: int, payload: bytes) -> None:
        if opcode == CLOSE:
            connection.writer.write(connection.closed(payload))
        elif opcode == PONG:
            connection.pongs.append(payload)
        else:
            for each in self.connections if self.broadcast else [connection]:
                each.writer.write(each.delivered(opcode, payload))
                each.sent += 1


@dataclass
class Outcome:
    status: int | None
    out: str
    err: str

    @property
    def figures(self) -> dict[str, Any]:
        assert self.status == 0, self.err
        figures: dict[str, Any] = json.loads(self.out)
        return figures


def run(load: Path, server: Server, *arguments: str) -> Outcome:
    async def main() -> Outcome:
        listener = await asyncio.start_server(server.serve, "127.0.0.1", 0, limit=1 << 22)
        port = listener.sockets[0].getsockname()[1]
        process = await asyncio.create_subprocess_exec(
            str(load),
            *arguments,
            str(port),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            out, err = await asyncio.wait_for(process.communicate(), GUARD)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            listener.close()
        return Outcome(process.returncode, out.decode(), err.decode())

    return asyncio.run(main())


ECHO = ("echo", "--connections", "3", "--depth", "4", "--messages", "20")
BROADCAST = ("bcast", "--connections", "4", "--depth", "4", "--messages", "20")


class TestRightServer:
    """What is right must pass, or a failure would mean nothing."""

    @pytest.mark.parametrize("size", [0, 1, 5, 12, 13, 64, 125, 126, 127, 65535, 65536, 300000])
    def test_echo(self, load: Path, size: int) -> None:
        figures = run(load, Server(), *ECHO, "--size", str(size)).figures
        assert (figures["messages"], figures["size"], figures["depth"]) == (60, size, 4)

    def test_binary(self, load: Path) -> None:
        assert run(load, Server(), *ECHO, "--binary").figures["binary"] is True

    def test_broadcast(self, load: Path) -> None:
        assert run(load, Server(broadcast=True), *BROADCAST).figures["messages"] == 4 * 20

    @pytest.mark.parametrize(("server", "mode"), [(Server(), ECHO), (Server(broadcast=True), BROADCAST)])
    def test_latency_is_measured_with_one_in_flight(self, load: Path, server: Server, mode: tuple[str, ...]) -> None:
        figures = run(load, server, *mode, "--depth", "1").figures
        assert 0 < figures["p50_us"] <= figures["p99_us"] <= figures["p999_us"]

    def test_seconds(self, load: Path) -> None:
        figures = run(load, Server(), "echo", "--seconds", "0.05", "--pid", str(os.getpid())).figures
        assert figures["messages"] > 0
        assert figures["server_cpu_us"] > 0

    def test_idle(self, load: Path) -> None:
        server = Server()
        figures = run(load, server, "idle", "--connections", "5", "--seconds", "0", "--pid", str(os.getpid())).figures
        assert figures["connections"] == 5
        assert [each.sent for each in server.connections] == [0, 1, 1, 1, 1, 1]
        assert "bytes_per_connection" in figures

    def test_rate(self, load: Path) -> None:
        server = Server()
        figures = run(
            load, server, "rate", "--connections", "2", "--seconds", "0.05", "--pid", str(os.getpid())
        ).figures
        assert 0 < figures["handshakes"] <= len(server.connections)
        assert figures["server_cpu_us"] > 0

    def test_fragments_with_pings_between(self, load: Path) -> None:
        class Fragmenting(Connection):
            def delivered(self, opcode: int, payload: bytes) -> bytes:
                pieces = frame(opcode, payload[:7], fin=False), frame(0, b"", fin=False), frame(0, payload[7:])
                return frame(PING, b"!").join(pieces)

        server = Server(Fragmenting)
        assert run(load, server, *ECHO).figures["messages"] == 60
        assert [each.pongs for each in server.connections] == [[b"!"] * 40] * 3

    def test_header_names_in_any_case(self, load: Path) -> None:
        class Shouting(Connection):
            def opened(self, response: bytes) -> bytes:
                return response.replace(b"Upgrade: websocket", b"UPGRADE:WebSocket ").replace(
                    b"Connection: Upgrade", b"connection: keep-alive, upgrade"
                )

        assert run(load, Server(Shouting), *ECHO).figures["messages"] == 60


def wrong(index: int) -> Callable[[Callable[[Connection, int, bytes], bytes]], type[Connection]]:
    """Make a class of connections of which number `index` delivers message WRONG by the decorated function."""

    def make(deliver: Callable[[Connection, int, bytes], bytes]) -> type[Connection]:
        class Wrong(Connection):
            def delivered(self, opcode: int, payload: bytes) -> bytes:
                if self.index == index and self.sent == WRONG:
                    return deliver(self, opcode, payload)
                held, self.held = self.held, b""
                return frame(opcode, payload) + held

        return Wrong

    return make


def drop(connection: Connection, opcode: int, payload: bytes) -> bytes:
    return b""


def duplicate(connection: Connection, opcode: int, payload: bytes) -> bytes:
    return frame(opcode, payload) * 2


def swap(connection: Connection, opcode: int, payload: bytes) -> bytes:
    connection.held = frame(opcode, payload)
    return b""


def shorten(connection: Connection, opcode: int, payload: bytes) -> bytes:
    return frame(opcode, payload[:-1])


def lengthen(connection: Connection, opcode: int, payload: bytes) -> bytes:
    return frame(opcode, payload + b"x")


MESSAGE_FAULTS = [
    pytest.param(drop, "message 6 where 5 was due (lost or out of order)", id="drop"),
    pytest.param(duplicate, "message 5 again where 6 was due (duplicated or out of order)", id="duplicate"),
    pytest.param(swap, "message 6 where 5 was due (lost or out of order)", id="swap"),
    pytest.param(shorten, "message 5 has 63 bytes instead of 64", id="shorten"),
    pytest.param(lengthen, "message 5 has at least 65 bytes instead of 64", id="lengthen"),
]
Deliver = Callable[[Connection, int, bytes], bytes]


def expect_failure(outcome: Outcome, text: str) -> None:
    assert outcome.status == 1, outcome
    assert text in outcome.err
    assert outcome.err.startswith("load: ")
    assert outcome.err.count("\n") == 1
    assert outcome.out == ""


class TestWrongMessages:
    @pytest.mark.parametrize(("deliver", "text"), MESSAGE_FAULTS)
    def test_echo(self, load: Path, deliver: Deliver, text: str) -> None:
        expect_failure(run(load, Server(wrong(1)(deliver)), *ECHO), text)

    @pytest.mark.parametrize("index", [0, 3])
    @pytest.mark.parametrize(("deliver", "text"), MESSAGE_FAULTS)
    def test_broadcast_to_one_subscriber(self, load: Path, deliver: Deliver, text: str, index: int) -> None:
        outcome = run(load, Server(wrong(index)(deliver), broadcast=True), *BROADCAST)
        expect_failure(outcome, f"connection {index}: {text}")

    @pytest.mark.parametrize(
        ("size", "at"),
        [(1, 0), (5, 4), (64, 0), (64, 7), (64, 8), (64, 11), (64, 12), (64, 63), (70000, 0), (70000, 69999)]
        + [(300000, 65536), (300000, 262143), (300000, 262144), (300000, 299999)],
    )
    @pytest.mark.parametrize("bit", [0x01, 0x80])
    def test_one_bit(self, load: Path, size: int, at: int, bit: int) -> None:
        def corrupt(connection: Connection, opcode: int, payload: bytes) -> bytes:
            return frame(opcode, payload[:at] + bytes([payload[at] ^ bit]) + payload[at + 1 :])

        outcome = run(load, Server(wrong(1)(corrupt)), *ECHO, "--size", str(size))
        expect_failure(outcome, f"message 5 is corrupted: byte {at} is 0x")

    def test_number_of_one_message_with_the_payload_of_another(self, load: Path) -> None:
        class Mixing(Connection):
            def delivered(self, opcode: int, payload: bytes) -> bytes:
                before, self.held = self.held or payload, payload
                return frame(opcode, payload[:12] + before[12:])

        expect_failure(run(load, Server(Mixing), *ECHO), "message 1 is corrupted: byte ")

    def test_message_of_another_connection(self, load: Path) -> None:
        class Crossing(Server):
            def received(self, connection: Connection, opcode: int, payload: bytes) -> None:
                connection.held = frame(opcode, payload)
                first, second = self.connections
                if first.held and second.held:
                    first.writer.write(second.held)
                    second.writer.write(first.held)

        outcome = run(load, Crossing(), *ECHO, "--connections", "2", "--depth", "1")
        expect_failure(outcome, "message 0 of sender ")

    def test_last_message_dropped(self, load: Path) -> None:
        class Dropping(Connection):
            def delivered(self, opcode: int, payload: bytes) -> bytes:
                return b"" if self.sent == 19 else frame(opcode, payload)

        outcome = run(load, Server(Dropping), *ECHO, "--stall", "0.3")
        expect_failure(outcome, "lost: 3 of 60 messages did not arrive in 0.3 s")

    def test_last_message_duplicated(self, load: Path) -> None:
        class Duplicating(Connection):
            def delivered(self, opcode: int, payload: bytes) -> bytes:
                return frame(opcode, payload) * (2 if self.sent == 19 else 1)

        expect_failure(run(load, Server(Duplicating), *ECHO), "more messages than the 20 that were sent")

    def test_last_message_duplicated_after_the_closing_handshake_began(self, load: Path) -> None:
        class Duplicating(Connection):
            def closed(self, payload: bytes) -> bytes:
                return frame(TEXT, b"x" * 64) + frame(CLOSE, payload)

        expect_failure(run(load, Server(Duplicating), *ECHO), "more messages than the 20 that were sent")

    def test_first_message_dropped_while_seconds_are_measured(self, load: Path) -> None:
        class Dropping(Connection):
            def delivered(self, opcode: int, payload: bytes) -> bytes:
                return b""

        outcome = run(load, Server(Dropping), "echo", "--seconds", "60", "--stall", "0.3")
        expect_failure(outcome, "lost: 1 of 1 messages did not arrive in 0.3 s")


class TestWrongFrames:
    @pytest.mark.parametrize(
        ("bytes_of", "text"),
        [
            (lambda p: b"\x81\xc0\0\0\0\0" + p, "the server masked a frame"),
            (lambda p: b"\x81\x7e\x00\x40" + p, "length 64 is not in its shortest form"),
            (lambda p: b"\x81\x7f" + struct.pack("!Q", 64) + p, "length 64 is not in its shortest form"),
            (lambda p: b"\x81\x7f" + struct.pack("!Q", 1 << 63 | 64) + p, "the highest bit of a length is set"),
            (lambda p: frame(TEXT, p, rsv=4), "reserved bits 0x40 are set"),
            (lambda p: frame(TEXT, p, rsv=1), "reserved bits 0x10 are set"),
            (lambda p: frame(BINARY, p), "opcode 2 instead of 1"),
            (lambda p: frame(0, p), "opcode 0 instead of 1"),
            (lambda p: frame(3, p), "opcode 3 instead of 1"),
            (lambda p: frame(11, p), "unknown opcode 11"),
            (lambda p: frame(TEXT, p[:9], fin=False) + frame(TEXT, p[9:]), "opcode 1 inside a fragmented message"),
            (lambda p: frame(TEXT, p, fin=False) + frame(0, b"x"), "has at least 65 bytes instead of 64"),
            (lambda p: frame(PING, b"", fin=False) + frame(TEXT, p), "a fragmented control frame"),
            (lambda p: frame(PING, b"x" * 126) + frame(TEXT, p), "a control frame of more than 125 bytes"),
            (lambda p: frame(PONG, b"") + frame(TEXT, p), "a Pong without a Ping"),
            (lambda p: frame(CLOSE, b"\x03\xf3full"), "the server closed with 1011: full"),
            (lambda p: frame(CLOSE, b""), "the server closed with 1005"),
            (lambda p: frame(CLOSE, b"\x03"), "a Close frame with half a close code"),
        ],
    )
    def test_frame(self, load: Path, bytes_of: Callable[[bytes], bytes], text: str) -> None:
        server = Server(wrong(1)(lambda connection, opcode, payload: bytes_of(payload)))
        expect_failure(run(load, server, *ECHO), text)

    def test_bytes_after_the_close_frame(self, load: Path) -> None:
        class Trailing(Connection):
            def closed(self, payload: bytes) -> bytes:
                return frame(CLOSE, payload) + b"\x89"

        expect_failure(run(load, Server(Trailing), *ECHO), "bytes after the Close frame")

    def test_close_frame_that_is_not_answered(self, load: Path) -> None:
        class Silent(Connection):
            def closed(self, payload: bytes) -> bytes:
                return b""

        expect_failure(run(load, Server(Silent), *ECHO, "--stall", "0.3"), "3 of 3 Close frames were not answered")

    def test_connection_that_ends(self, load: Path) -> None:
        def end(connection: Connection, opcode: int, payload: bytes) -> bytes:
            connection.writer.close()
            return b""

        outcome = run(load, Server(wrong(1)(end)), *ECHO, "--depth", "1")  # with unread messages it would be a reset
        expect_failure(outcome, "the server ended the TCP connection without a closing handshake")


class TestWrongHandshakes:
    @pytest.mark.parametrize("mode", [ECHO, BROADCAST, ("idle", "--connections", "3"), ("rate",)])
    @pytest.mark.parametrize(
        ("old", "new", "text"),
        [
            (b"101 Switching Protocols", b"200 OK", "handshake refused: HTTP/1.1 200 OK"),
            (b"HTTP/1.1 101", b"HTTP/1.1 1010", "handshake refused: HTTP/1.1 1010"),
            (b"Upgrade: websocket\r\n", b"", "without Upgrade: websocket"),
            (b"Upgrade: websocket", b"Upgrade: h2c", "without Upgrade: websocket"),
            (b"Connection: Upgrade", b"Connection: close", "without Connection: Upgrade"),
            (b"Accept: ", b"Accept: A", "wrong Sec-WebSocket-Accept: A"),
            (b"Sec-WebSocket-Accept", b"Sec-WebSocket-Acceptance", "wrong Sec-WebSocket-Accept"),
            (b"\r\n\r\n", b"\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n", "an extension that was not"),
            (b"\r\n\r\n", b"\r\nSec-WebSocket-Protocol: chat\r\n\r\n", "a subprotocol that was not offered"),
            (b"\r\n\r\n", b"\r\n" + b"X-Filler: " + b"x" * 5000, "the handshake response does not end"),
        ],
    )
    def test_response(self, load: Path, mode: tuple[str, ...], old: bytes, new: bytes, text: str) -> None:
        class Wrong(Connection):
            def opened(self, response: bytes) -> bytes:
                return response.replace(old, new)

        expect_failure(run(load, Server(Wrong), *mode), text)

    def test_accept_of_another_key(self, load: Path) -> None:
        class Wrong(Connection):
            def opened(self, _: bytes) -> bytes:
                return response(b"dGhlIHNhbXBsZSBub25jZQ==")

        expect_failure(
            run(load, Server(Wrong), *ECHO),
            "wrong Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo= instead of ",
        )

    def test_handshake_that_is_not_answered(self, load: Path) -> None:
        class Silent(Connection):
            def opened(self, response: bytes) -> bytes:
                return b""

        expect_failure(run(load, Server(Silent), *ECHO, "--stall", "0.3"), "3 of 3 handshakes were not answered")


class TestIdle:
    def test_connection_that_does_not_last(self, load: Path) -> None:
        class Ending(Connection):
            def opened(self, response: bytes) -> bytes:
                asyncio.get_running_loop().call_soon(self.writer.close)
                return response

        outcome = run(load, Server(Ending), "idle", "--connections", "3", "--seconds", "0")
        expect_failure(outcome, "the server ended the TCP connection without a closing handshake")

    def test_connection_that_no_longer_echoes(self, load: Path) -> None:
        class Deaf(Connection):
            def delivered(self, opcode: int, payload: bytes) -> bytes:
                return b"" if self.index == 2 else frame(opcode, payload)

        outcome = run(load, Server(Deaf), "idle", "--connections", "3", "--seconds", "0", "--stall", "0.3")
        expect_failure(outcome, "lost: 1 of 3 messages did not arrive in 0.3 s")


class TestLimit:
    """The bare loop that is the unit must serve what it is measured with."""

    @pytest.mark.parametrize(
        ("mode", "arguments"),
        [
            ("echo", ECHO),
            ("echo", (*ECHO, "--size", "0")),
            ("echo", (*ECHO, "--size", "125", "--binary")),
            ("echo", (*ECHO, "--size", "65535")),
            ("echo", (*ECHO, "--size", "3000000")),
            ("bcast", BROADCAST),
            ("bcast", (*BROADCAST, "--size", "100000")),
            ("echo", ("idle", "--connections", "10", "--seconds", "0")),
            ("echo", ("rate", "--seconds", "0.05")),
        ],
    )
    def test_passes(self, load: Path, mode: str, arguments: tuple[str, ...]) -> None:
        asyncio.run(self.passes(load, mode, arguments))

    async def passes(self, load: Path, mode: str, arguments: tuple[str, ...]) -> None:
        listener = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        listener.close()
        await listener.wait_closed()
        limit = await asyncio.create_subprocess_exec(str(load.parent / "limit"), str(port), mode)
        try:
            await asyncio.wait_for(self.connect(port), GUARD)
            process = await asyncio.create_subprocess_exec(
                str(load), *arguments, str(port), stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
            out, err = await asyncio.wait_for(process.communicate(), GUARD)
        finally:
            limit.kill()
            await limit.wait()
        assert (process.returncode, err) == (0, b"")
        assert json.loads(out)["mode"] == arguments[0]

    async def connect(self, port: int) -> None:
        """Return once something listens on the port."""
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                await asyncio.sleep(0)
            else:
                writer.close()
                return


class TestLatency:
    PROGRAM = """
    #include <stdio.h>
    #include "latency.h"
    static struct latency latency;
    int main(void) {
        for (unsigned long long ns; scanf("%llu", &ns) == 1;) latency_add(&latency, ns);
        for (int percent = 0; percent < 100; percent++)
            printf("%llu\\n", (unsigned long long)latency_percentile(&latency, percent / 100.0));
    }
    """

    def test_percentiles_are_right_to_a_sixty_fourth(self, tmp_path: Path) -> None:
        binary = tmp_path / "latency"
        compiler = [os.environ.get("CC", "cc"), "-xc", f"-I{LOAD}", "-o", str(binary), "-"]
        subprocess.run(compiler, input=self.PROGRAM, text=True, check=True)
        samples = [*range(200), *(int(1.1**power) for power in range(430)), 2**64 - 1]
        run = subprocess.run([binary], input="\n".join(map(str, samples)), text=True, check=True, capture_output=True)
        samples.sort()
        for percent, measured in enumerate(map(int, run.stdout.split())):
            exact = samples[percent * len(samples) // 100]
            assert exact - exact // 64 <= measured <= exact
