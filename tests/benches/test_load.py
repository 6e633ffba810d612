"""The load generator of benches/load passes right servers, and fails when one byte or one message is wrong.

What a frame and a handshake may look like is in test_load_frames.py.
"""

import asyncio
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from scripted import (
    BROADCAST,
    CLOSE,
    ECHO,
    GUARD,
    PING,
    ROOMS,
    TEXT,
    Connection,
    Server,
    expect_failure,
    frame,
    run,
    wrong,
)

LOAD = Path(__file__).parents[2] / "benches" / "load"


class TestRightServer:
    """What is right must pass, or a failure would mean nothing."""

    @pytest.mark.parametrize("size", [0, 1, 5, 12, 13, 64, 125, 126, 127, 65535, 65536, 300000])
    def test_echo(self, load: Path, size: int) -> None:
        figures = run(load, Server(), *ECHO, "--size", str(size)).figures
        assert (figures["messages"], figures["size"], figures["depth"]) == (60, size, 16)

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
            ("rooms", (*ROOMS, "--rooms", "4")),
            ("rooms", (*ROOMS, "--rooms", "8", "--each", "3")),
            ("rooms", (*ROOMS, "--rooms", "8", "--each", "3", "--size", "100000")),
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

    def test_percentiles_are_right_to_a_sixty_fourth(self, load: Path, tmp_path: Path) -> None:
        binary = tmp_path / "latency"
        compiler = [os.environ.get("CC", "cc"), "-xc", f"-I{LOAD}", "-o", str(binary), "-"]
        subprocess.run(compiler, input=self.PROGRAM, text=True, check=True)
        samples = [*range(200), *(int(1.1**power) for power in range(430)), 2**64 - 1]
        run = subprocess.run([binary], input="\n".join(map(str, samples)), text=True, check=True, capture_output=True)
        samples.sort()
        for percent, measured in enumerate(map(int, run.stdout.split())):
            exact = samples[percent * len(samples) // 100]
            assert exact - exact // 64 <= measured <= exact
