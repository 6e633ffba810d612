"""What TLS costs: instructions of a handshake, server CPU for each message, and memory of an idle connection.

`tls.py [--rounds N] [--seconds S]`, or `tls.py --handshakes`, which only counts instructions. crest with its own
transports and with uvloop's, picows (on aiofastnet, which talks to OpenSSL itself) and aiohttp. The load is Python's
own `ssl` in this process, on a CPU of its own: it costs more than the servers, so rates mean nothing here, and CPU of
the server all. Peers are those of `compare.py`, which installs them. In brackets: crest's cost, a part of theirs.

Handshakes are counted, by callgrind, and not timed. Client and server compute at the same time, and where both CPUs are
threads of one core, each slows the other. How much depends on how their computing overlaps.
"""

import argparse
import os
import re
import shutil
import signal
import socket
import ssl
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from compare import install_peers
from compression import GUARD, REQUEST, cpu_time, masked
from measurement import BENCHES, LISTEN_TIMEOUT, VENV_PYTHON, end, free_port, processors, start, wait_until_it_listens

SERVERS = {
    "crest": (sys.executable, "crest_server.py", "echo"),
    "crest on uvloop's": (sys.executable, "crest_server.py", "echo-loop"),
    "picows": (str(VENV_PYTHON), "picows_server.py", "echo"),
    "aiohttp": (str(VENV_PYTHON), "aiohttp_server.py", "echo"),
}
IDLE = 500  # connections


@dataclass(frozen=True)
class Echo:
    """Texts of `size` bytes, `depth` of them at once on each of so many connections."""

    size: int
    depth: int
    connections: int

    @property
    def title(self) -> str:
        return f"echo of {self.size:,} B, {self.depth} in flight"


ECHOES = [Echo(64, 1, 20), Echo(64, 32, 10), Echo(1024, 1, 20), Echo(16_000, 1, 10), Echo(64_000, 1, 4)]
HANDSHAKE, MEMORY = "TLS and opening handshake, instructions", f"idle connection, of {IDLE}, bytes"
HANDSHAKES = 100  # in one run; another has twice as many
SLOW = 120.0  # seconds: to start, and to end, within valgrind


def make_certificate(folder: Path) -> list[str]:
    """Paths of a certificate that signs itself and of its key."""
    certificate, key = str(folder / "certificate.pem"), str(folder / "key.pem")
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    name = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(
        ["openssl", "req", "-x509", *kind, *name, "-days", "2", "-keyout", key, "-out", certificate],
        check=True,
        capture_output=True,
    )
    return [certificate, key]


@contextmanager
def serving(
    name: str, files: list[str], cpu: int | None, within: Sequence[str] = ()
) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """A server; its port and process. It may run `within` another program, which is slow and has something to say."""
    port, (python, program, mode) = free_port(), SERVERS[name]
    command = [*within, python, str(BENCHES / "servers" / program), str(port), mode, *files]
    said = subprocess.PIPE if within else subprocess.DEVNULL
    process = start(command, cpu, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said)
    try:
        refused = wait_until_it_listens(process, port, SLOW if within else LISTEN_TIMEOUT)
        if refused:
            raise SystemExit(f"tls: {name}: {refused}")
        yield port, process
    finally:
        end(process)


def connect(port: int, context: ssl.SSLContext) -> ssl.SSLSocket:
    sock = context.wrap_socket(socket.create_connection(("127.0.0.1", port), GUARD), server_hostname="127.0.0.1")
    sock.sendall(REQUEST.format("dGhlIHNhbXBsZSBub25jZQ==", "").encode())
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        answer += sock.recv(1)
    assert answer.startswith(b"HTTP/1.1 101 "), answer
    return sock


def exchange(sockets: list[ssl.SSLSocket], sent: bytes, due: int) -> None:
    for sock in sockets:
        sock.sendall(sent)
    for sock in sockets:
        missing = due
        while missing:
            got = len(sock.recv(missing))
            assert got, "the server has closed the connection"
            missing -= got


def measure_echo(echo: Echo, port: int, pid: int, context: ssl.SSLContext, seconds: float) -> float:
    """Microseconds of CPU a message."""
    sockets = [connect(port, context) for _ in range(echo.connections)]
    header = 2 if echo.size < 126 else 4
    sent, due = masked(b"x" * echo.size) * echo.depth, (header + echo.size) * echo.depth
    for _ in range(20):
        exchange(sockets, sent, due)
    began, count = cpu_time(pid), 0
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        exchange(sockets, sent, due)
        count += echo.depth * echo.connections
    cost = (cpu_time(pid) - began) * 1e6 / count
    for sock in sockets:
        sock.close()
    return cost


def resident(pid: int) -> int:
    """Bytes of memory that a process has."""
    pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def measure_idle(port: int, pid: int, context: ssl.SSLContext) -> float:
    """Bytes of memory a connection that is open."""
    sockets = [connect(port, context) for _ in range(50)]
    before = resident(pid)
    sockets += [connect(port, context) for _ in range(IDLE)]
    found = (resident(pid) - before) / IDLE
    for sock in sockets:
        sock.close()
    return found


def instructions(name: str, files: list[str], count: int) -> int:
    """All instructions of a server that serves so many connections: a TLS handshake, an upgrade and an end each."""
    context = ssl.create_default_context(cafile=files[0])
    counting = ("valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null")
    with serving(name, files, None, counting) as (port, process):
        for _ in range(count):
            connect(port, context).close()
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=SLOW)
    collected = re.search(r"Collected\s*:\s*(\d+)", said)
    if not collected:
        raise SystemExit(f"tls: {name}: {said[-2000:]}")
    return int(collected[1])


def count_handshakes(files: list[str]) -> dict[str, dict[str, float]]:
    """Instructions of one handshake, for each server: the difference of two runs, which start-up drops out of."""
    found = {}
    for name in SERVERS:
        once, twice = (instructions(name, files, count) for count in (HANDSHAKES, 2 * HANDSHAKES))
        found[name] = {HANDSHAKE: (twice - once) / HANDSHAKES}
    return found


def measure(name: str, files: list[str], seconds: float, cpu: int | None) -> dict[str, float]:
    context = ssl.create_default_context(cafile=files[0])
    found = {}
    with serving(name, files, cpu) as (port, process):
        found[MEMORY] = measure_idle(port, process.pid, context)
        for echo in ECHOES:
            found[echo.title] = measure_echo(echo, port, process.pid, context, seconds)
    return found


def show(rounds: list[dict[str, dict[str, float]]]) -> None:
    """Print the rows that all rounds have."""
    for title in rounds[0]["crest"]:
        cells = []
        for name in SERVERS:
            median = statistics.median(each[name][title] for each in rounds)
            ratio = statistics.median(each["crest"][title] / each[name][title] for each in rounds)
            figure = f"{median:,.0f}" if median >= 100 else f"{median:.2f}"
            cells.append(figure if name == "crest" else f"{figure} ({ratio:.2f})")
        print(f"| {title} | {' | '.join(cells)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description="What TLS costs, beside two peers.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each echo")
    parser.add_argument("--handshakes", action="store_true", help="only count the instructions of handshakes")
    arguments = parser.parse_args()
    if shutil.which("valgrind") is None:
        raise SystemExit("tls: valgrind is not installed")
    install_peers()
    cpus = processors()
    rounds: list[dict[str, dict[str, float]]] = []
    print(f"| | {' | '.join(SERVERS)} |\n|{'---|' * (len(SERVERS) + 1)}")
    with TemporaryDirectory() as folder:
        files = make_certificate(Path(folder))
        show([count_handshakes(files)])
        if cpus:
            os.sched_setaffinity(0, {cpus[1]})
        for number in range(0 if arguments.handshakes else arguments.rounds):
            names = list(SERVERS)
            names = names[number % len(names) :] + names[: number % len(names)]
            rounds.append({name: measure(name, files, arguments.seconds, cpus and cpus[0]) for name in names})
    if rounds:
        show(rounds)


if __name__ == "__main__":
    main()
