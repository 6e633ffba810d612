"""One measurement: start a server, put it under load, end it. Also which servers and which scenarios there are.

Knows nothing of rounds, medians or reports. Whatever goes wrong with a server is returned as a text, never raised.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BENCHES = Path(__file__).resolve().parent
ROOT = BENCHES.parent
BINARIES = ROOT / "build" / "load"
VENV = ROOT / ".bench-venv"
VENV_PYTHON = VENV / "bin" / "python"
BUN = VENV / "node_modules" / ".bin" / "bun"

LISTEN_TIMEOUT = 15.0  # seconds
RUN_TIMEOUT = 300.0


@dataclass(frozen=True)
class Scenario:
    """What is measured, as a mode of the server and arguments of `load`; `figure` is a key of what `load` prints."""

    name: str
    title: str
    mode: str
    load: str
    figure: str = "server_cpu_us"
    unit: str = "us"
    rate: str | None = "messages_per_second"


def _rooms(name: str, title: str, load: str) -> list[Scenario]:
    """Make the scenarios of one and of 16 messages in flight for each room."""
    return [
        Scenario(f"{name}-{depth}", f"{title}, {depth} in flight", "rooms", f"rooms {load} --depth {depth}")
        for depth in (1, 16)
    ]


SCENARIOS = [
    Scenario("echo-64", "Echo, 64 B, 100 connections, 1 in flight", "echo", "echo --connections 100"),
    Scenario(
        "echo-64-pipelined",
        "Echo, 64 B, 20 connections, 32 in flight",
        "echo",
        "echo --connections 20 --depth 32",
    ),
    Scenario(
        "echo-64k",
        "Echo, 64 KiB, 4 connections, 4 in flight",
        "echo",
        "echo --connections 4 --depth 4 --size 65536",
    ),
    Scenario("echo-1m", "Echo, 1 MiB, 1 connection, 2 in flight", "echo", "echo --depth 2 --size 1048576"),
    Scenario(
        "echo-binary-1k",
        "Echo, 1 KiB binary, 50 connections, 8 in flight",
        "echo",
        "echo --connections 50 --depth 8 --size 1024 --binary",
    ),
    Scenario("broadcast-1", "Broadcast to 1000, 64 B, 1 in flight", "bcast", "bcast --connections 1000"),
    Scenario("broadcast-16", "Broadcast to 1000, 64 B, 16 in flight", "bcast", "bcast --connections 1000 --depth 16"),
    Scenario(
        "broadcast-16-1k",
        "Broadcast to 1000, 1 KiB, 16 in flight",
        "bcast",
        "bcast --connections 1000 --depth 16 --size 1024",
    ),
    *_rooms("rooms-10", "Rooms of 10, 1,000 connections", "--connections 1000 --rooms 100"),
    *_rooms("rooms-10-of-1000", "In 10 of 1,000 rooms, 1,000 connections", "--connections 1000 --rooms 1000 --each 10"),
    *_rooms("rooms-1000", "One room of 1,000", "--connections 1000 --rooms 1"),
    *_rooms("rooms-15000", "Rooms of 10, 15,000 connections", "--connections 15000 --rooms 1500"),
    *(
        Scenario(
            f"workers-{depth}",
            f"Broadcast to 1000 over 2 workers, 64 B, {depth} in flight",
            "bcast-2",
            f"bcast --connections 1000 --depth {depth}",
        )
        for depth in (1, 16)
    ),
    Scenario(
        "idle",
        "Memory of an idle connection, 15,000 open",
        "echo",
        "idle --connections 15000",
        figure="bytes_per_connection",
        unit="bytes",
        rate=None,
    ),
    Scenario("connect-rate", "Opening handshake", "echo", "rate", rate="handshakes_per_second"),
]


@dataclass(frozen=True)
class Server:
    """A server program: `command PORT MODE`, for all scenarios or for those whose names begin with one of `only`.

    `distribution` is what its interpreter has installed; a program without one says its version itself. `workers`: it
    takes how many there are to be behind the mode.
    """

    name: str
    command: tuple[str, ...]
    distribution: str | None = None
    only: tuple[str, ...] | None = None
    echo_mode: str = "echo"
    workers: bool = False

    def serves(self, scenario: Scenario) -> bool:
        return self.only is None or scenario.name.startswith(self.only)

    def arguments(self, port: int, mode: str) -> list[str]:
        if not self.workers:
            mode = mode.partition("-")[0]
        return [*self.command, str(port), self.echo_mode if mode == "echo" else mode]


def _program(name: str) -> str:
    return str(BENCHES / "servers" / f"{name}_server.py")


def _peer(name: str, *only: str) -> Server:
    return Server(name, (str(VENV_PYTHON), _program(name)), name, only=only or None)


def _with_redis(name: str) -> Server:
    command = str(VENV_PYTHON), _program("asgi_redis"), name
    return Server(f"{name}-redis", command, name, only=("workers-",), workers=True)


WITHOUT_ROOMS = ("echo-", "broadcast-", "idle", "connect-rate")
PEERS = [
    *(_peer(name, *WITHOUT_ROOMS) for name in ("picows", "websockets", "aiohttp")),
    _peer("socketify", *WITHOUT_ROOMS, "rooms-"),
    *(_peer(name, *WITHOUT_ROOMS) for name in ("uvicorn", "granian")),
    Server("uvicorn-wsproto", (str(VENV_PYTHON), _program("uvicorn"), "wsproto"), "uvicorn", only=WITHOUT_ROOMS),
    *(_with_redis(name) for name in ("uvicorn", "granian")),
    _peer("fastapi", "rooms-"),
    Server("bun", (str(BUN), str(BENCHES / "servers" / "bun_server.js")), only=("rooms-",)),
]
UNDER_UVICORN = sys.executable, _program("uvicorn"), "crest.asgi:WebSocketProtocol"
SERVERS = [
    Server("limit", (str(BINARIES / "limit"),)),
    Server("crest", (sys.executable, _program("crest")), "crest-ws", workers=True),
    Server("crest-async", (sys.executable, _program("crest")), "crest-ws", only=("echo-",), echo_mode="async"),
    Server("crest-dropped-in", UNDER_UVICORN, "crest-ws", only=WITHOUT_ROOMS),
    Server("crest-mounted", (sys.executable, _program("mounted")), "crest-ws", only=WITHOUT_ROOMS),
    *PEERS,
]


def processors() -> tuple[int, int] | None:
    """The CPUs for server and load; None where they must share one, or cannot be chosen."""
    if not hasattr(os, "sched_getaffinity"):
        return None
    allowed = sorted(os.sched_getaffinity(0))
    return (allowed[0], allowed[1]) if len(allowed) > 1 else None


def start(arguments: list[str], cpu: int | None, **options: Any) -> subprocess.Popen[str]:
    """Start a process in a group of its own and on one CPU, which its children inherit."""
    if cpu is None:
        return subprocess.Popen(arguments, start_new_session=True, text=True, **options)
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        return subprocess.Popen(arguments, start_new_session=True, text=True, **options)
    finally:
        os.sched_setaffinity(0, before)


def end(process: subprocess.Popen[str]) -> None:
    """End a process that `start` started, and the children that it left."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # its own group: the number is its pid
    process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:200] if lines else "nothing on stderr"


def wait_until_it_listens(server: subprocess.Popen[str], port: int, seconds: float = LISTEN_TIMEOUT) -> str | None:
    """Return None, or why it does not."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if server.poll() is not None:
            return f"the server ended with {server.returncode}"
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1).close()
            return None
        time.sleep(0.05)
    return f"the server did not listen within {seconds:g} s"


def _put_under_load(scenario: Scenario, seconds: float, port: int, pid: int, cpu: int | None) -> dict[str, Any]:
    arguments = [str(BINARIES / "load"), *scenario.load.split(), "--seconds", str(seconds)]
    arguments += ["--pid", str(pid), str(port)]
    load = start(arguments, cpu, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        out, err = load.communicate(timeout=RUN_TIMEOUT)
    except subprocess.TimeoutExpired:
        return {"error": f"load did not end within {RUN_TIMEOUT:g} s"}
    finally:
        end(load)
        for pipe in (load.stdout, load.stderr):
            if pipe is not None:
                pipe.close()
    if load.returncode:
        return {"error": _last_line(err)}
    result: dict[str, Any] = json.loads(out)
    return result


def measure(server: Server, scenario: Scenario, seconds: float) -> dict[str, Any]:
    """Measure one server once.

    Returns:
        What `load` printed, or {"error": why there are no figures}.
    """
    port, cpus = free_port(), processors()
    with tempfile.TemporaryFile("w+") as log:
        try:
            process = start(
                server.arguments(port, scenario.mode),
                cpus and cpus[0],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
        except OSError as error:
            return {"error": f"the server did not start: {error}"}
        try:
            refused = wait_until_it_listens(process, port)
            if refused:
                result: dict[str, Any] = {"error": refused}
            else:
                result = _put_under_load(scenario, seconds, port, process.pid, cpus and cpus[1])
            if "error" in result and process.poll() is not None:
                log.seek(0)
                result["error"] += f" (server: {process.returncode}, {_last_line(log.read())})"
        finally:
            end(process)
    return result
