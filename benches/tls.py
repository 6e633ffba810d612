"""What TLS costs: server CPU for each message and handshake, and memory of an idle connection, beside two peers.

`tls.py [--rounds N] [--seconds S]`. crest with its own transports and with uvloop's, picows (on aiofastnet, which talks
to OpenSSL itself) and aiohttp. The load is Python's own `ssl` in this process, on a CPU of its own: it costs more than
the servers, so rates mean nothing here, and CPU of the server all. Peers are those of `compare.py`, which installs
them. In brackets: crest's cost, a part of theirs.
"""

import argparse
import os
import socket
import ssl
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from compare import install_peers
from compression import GUARD, REQUEST, cpu_time, masked
from measurement import BENCHES, VENV_PYTHON, end, free_port, processors, start, wait_until_it_listens

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
HANDSHAKE, MEMORY = "opening handshake", f"idle connection, of {IDLE}, bytes"


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
def serving(name: str, files: list[str], cpu: int | None) -> Iterator[tuple[int, int]]:
    """A server; its port and process."""
    port, (python, program, mode) = free_port(), SERVERS[name]
    command = [python, str(BENCHES / "servers" / program), str(port), mode, *files]
    process = start(command, cpu, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        refused = wait_until_it_listens(process, port)
        if refused:
            raise SystemExit(f"tls: {name}: {refused}")
        yield port, process.pid
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


def measure_idle(port: int, pid: int, context: ssl.SSLContext) -> tuple[float, float]:
    """Microseconds of CPU a handshake, and bytes of memory a connection that is open."""
    sockets = [connect(port, context) for _ in range(50)]
    began, before = cpu_time(pid), resident(pid)
    sockets += [connect(port, context) for _ in range(IDLE)]
    found = (cpu_time(pid) - began) * 1e6 / IDLE, (resident(pid) - before) / IDLE
    for sock in sockets:
        sock.close()
    return found


def measure(name: str, files: list[str], seconds: float, cpu: int | None) -> dict[str, float]:
    context = ssl.create_default_context(cafile=files[0])
    found = {}
    with serving(name, files, cpu) as (port, pid):
        found[HANDSHAKE], found[MEMORY] = measure_idle(port, pid, context)
        for echo in ECHOES:
            found[echo.title] = measure_echo(echo, port, pid, context, seconds)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="What TLS costs, beside two peers.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each echo")
    arguments = parser.parse_args()
    install_peers()
    cpus = processors()
    if cpus:
        os.sched_setaffinity(0, {cpus[1]})
    rounds: list[dict[str, dict[str, float]]] = []
    with TemporaryDirectory() as folder:
        files = make_certificate(Path(folder))
        for number in range(arguments.rounds):
            names = list(SERVERS)
            names = names[number % len(names) :] + names[: number % len(names)]
            rounds.append({name: measure(name, files, arguments.seconds, cpus and cpus[0]) for name in names})
    print(f"| | {' | '.join(SERVERS)} |\n|{'---|' * (len(SERVERS) + 1)}")
    for title in rounds[0]["crest"]:
        cells = []
        for name in SERVERS:
            median = statistics.median(each[name][title] for each in rounds)
            ratio = statistics.median(each["crest"][title] / each[name][title] for each in rounds)
            figure = f"{median:,.0f}" if median >= 100 else f"{median:.2f}"
            cells.append(figure if name == "crest" else f"{figure} ({ratio:.2f})")
        print(f"| {title} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
