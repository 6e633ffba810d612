"""Many connections at once with workers: what they take, when a broadcast reaches them, how they spread over workers.

`many.py [--connections 150000] [--workers 8] [--clients 8] [--messages 5] [--roll]`. Server and clients are on this
machine, so both ends of each connection are. A process may have so many open files only (`ulimit -n`), and an address
so many ports: hence several workers, and several clients, each with an address of its own (Linux).

| figure | |
|---|---|
| `opening_seconds` | from the first connect(2) to the last handshake |
| `user_bytes` | memory of the server's processes, proportional set size, that a connection has added |
| `kernel_bytes` | the kernel's memory that a connection has added: both of its ends |
| `idle_cores` | CPU time of the server's processes in each second of `--idle`, in which each client is pinged once |
| `delivery_us` | CPU time of the server's processes for each delivery of a message |
| `first_ms`, `median_ms`, `last_ms` | from the send(2) of a message to its arrivals; of several messages the median |
| `most_to_mean` | of the workers' connections |
| `rolled` | the same after SIGUSR2 has replaced all workers, and how long that took |
"""

import argparse
import contextlib
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

from measurement import BINARIES, free_port

HERE = Path(__file__).parent
MANY = BINARIES / "many"
SETTLE = 2.0
"""Seconds after which memory that is not used any more has been given back."""


class Client:
    """A process that holds connections."""

    def __init__(self, number: int, connections: int, port: int) -> None:
        command = [MANY, "--connections", str(connections), "--source", f"127.1.0.{number}", str(port)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def say(self, command: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("a client has ended, see above")
        found: dict[str, Any] = json.loads(line)
        return found


class Server:
    """The program with workers."""

    def __init__(self, workers: int) -> None:
        self.port = free_port()
        command = [sys.executable, str(HERE / "servers" / "crest_server.py"), str(self.port), f"bcast-{workers}"]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.log: TextIO = self.process.stderr  # type: ignore[assignment]
        self.until("workers serve")
        self.own = min(self.descriptors())

    def until(self, text: str) -> None:
        for line in self.log:
            if text in line:
                return
            if re.search("ERROR|WARNING", line):
                print(line, end="", file=sys.stderr)
        raise SystemExit("the server has ended")

    def processes(self) -> list[int]:
        """The supervisor and its children."""
        root = self.process.pid
        return [root, *map(int, Path(f"/proc/{root}/task/{root}/children").read_text().split())]

    def descriptors(self) -> list[int]:
        """How many each worker has open."""
        workers = [
            each for each in self.processes()[1:] if b"exchange" not in Path(f"/proc/{each}/cmdline").read_bytes()
        ]
        return [len(os.listdir(f"/proc/{each}/fd")) for each in workers]

    def spread(self) -> list[int]:
        """The connections of each worker."""
        return sorted(each - self.own for each in self.descriptors())

    def spent(self) -> float:
        """Seconds of CPU time, user and system, of all processes so far."""
        fields = [Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split() for each in self.processes()]
        return sum(int(each[11]) + int(each[12]) for each in fields) / os.sysconf("SC_CLK_TCK")

    def memory(self) -> int:
        total = 0
        for each in self.processes():
            found = re.search(r"^Pss: +(\d+) kB", Path(f"/proc/{each}/smaps_rollup").read_text(), re.MULTILINE)
            assert found
            total += int(found[1]) * 1024
        return total


def kernel_memory() -> int:
    """What the kernel has for itself: sockets are in its slabs, what waits in them in pages of its own."""
    fields = dict(re.findall(r"^(\w+): +(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE))
    pages = re.search(r"^TCP: .* mem (\d+)", Path("/proc/net/sockstat").read_text(), re.MULTILINE)
    assert pages
    return int(fields["Slab"]) * 1024 + int(pages[1]) * os.sysconf("SC_PAGE_SIZE")


def spread_of(counts: list[int]) -> dict[str, Any]:
    return {"workers": counts, "most_to_mean": round(max(counts) / statistics.mean(counts), 4)}


def broadcast(clients: list[Client]) -> tuple[float, float, float]:
    """Milliseconds to the first, the median and the last arrival."""
    clients[0].say("send")
    heard = [each.hear() for each in clients]
    sent = max(each["sent"] for each in heard)
    arrivals = sorted(at for each in heard for at in each["arrivals"])
    first, median, last = ((each - sent) / 1e6 for each in (arrivals[0], arrivals[len(arrivals) // 2], arrivals[-1]))
    return first, median, last


def roll(server: Server, clients: list[Client], connections: int) -> dict[str, Any]:
    start = time.monotonic()
    server.process.send_signal(signal.SIGUSR2)
    server.until("workers were replaced")
    while True:
        for each in clients:
            each.say("count")
        counts = [each.hear() for each in clients]
        if sum(each["open"] for each in counts) == connections:
            break
        time.sleep(0.1)
    return {
        "seconds": round(time.monotonic() - start, 1),
        "opened_anew": sum(each["opened"] for each in counts) - connections,
        **spread_of(server.spread()),
    }


def measure(arguments: argparse.Namespace, server: Server, clients: list[Client]) -> dict[str, Any]:
    memory, kernel = server.memory(), kernel_memory()
    start = time.monotonic()
    share, more = divmod(arguments.connections, arguments.clients)
    clients += [Client(each + 1, share + (each < more), server.port) for each in range(arguments.clients)]
    opened = sum(each.hear()["open"] for each in clients)
    found: dict[str, Any] = {"connections": opened, "opening_seconds": round(time.monotonic() - start, 1)}
    time.sleep(SETTLE)
    found["user_bytes"] = round((server.memory() - memory) / opened)
    found["kernel_bytes"] = round((kernel_memory() - kernel) / opened)
    found |= spread_of(server.spread())
    spent = server.spent()
    time.sleep(arguments.idle)
    found["idle_cores"] = round((server.spent() - spent) / arguments.idle, 3)
    spent = server.spent()
    times = [broadcast(clients) for _ in range(arguments.messages)]
    found["delivery_us"] = round((server.spent() - spent) * 1e6 / opened / arguments.messages, 2)
    for name, values in zip(("first_ms", "median_ms", "last_ms"), zip(*times, strict=True), strict=True):
        found[name] = round(statistics.median(values), 1)
    if arguments.roll:
        found["rolled"] = roll(server, clients, opened)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--connections", type=int, default=150_000)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--clients", type=int, default=8, help="processes that hold the other ends")
    parser.add_argument("--messages", type=int, default=5)
    parser.add_argument("--idle", type=float, default=20, help="seconds")
    parser.add_argument("--roll", action="store_true", help="replace all workers in the end")
    parser.add_argument("--seconds", type=int, default=600, help="after which all is ended")
    arguments = parser.parse_args()

    def too_long(number: int, frame: FrameType | None) -> None:
        raise SystemExit(f"this takes longer than {arguments.seconds} s")

    signal.signal(signal.SIGALRM, too_long)
    signal.alarm(arguments.seconds)
    subprocess.run(["make", "--silent", "-C", HERE / "load"], check=True)
    server, clients = Server(arguments.workers), []
    try:
        print(json.dumps(measure(arguments, server, clients)))
    finally:
        for each in clients:
            each.process.kill()
            each.process.wait()
        server.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.process.communicate(timeout=60)
        server.process.kill()


if __name__ == "__main__":
    main()
