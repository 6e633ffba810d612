"""What stands around crest.cluster in its tests: a loop that turns when told, sockets, and an exchange in this process.

Sockets of one machine have what was sent at once, so a few turns carry a message all the way.
"""

from __future__ import annotations

import json
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from crest.cluster.bus import Bus
from crest.cluster.record import Unpacked, unpack
from crest.cluster.switch import Switch
from crest.gap import Gap
from crest.io.loop.poller import Poller
from support.link import Link, Scene, scene


def pair() -> tuple[socket.socket, socket.socket]:
    """Two ends that do not block."""
    ends = socket.socketpair()
    for each in ends:
        each.setblocking(False)
    return ends


class Peer:
    """The other end of a link, which the test reads and writes."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.rest = b""

    def __del__(self) -> None:
        self.sock.close()

    def read(self, most: int = 1 << 30) -> bytes:
        """All bytes that have come, up to so many."""
        data = b""
        try:
            while most > len(data) and (chunk := self.sock.recv(min(1 << 16, most - len(data)))):
                data += chunk
        except (BlockingIOError, ConnectionResetError):
            pass
        return data

    def records(self) -> list[Unpacked]:
        """The whole records that have come."""
        found, self.rest = unpack(self.rest + self.read())
        return found


class Worker:
    """A worker in this process: a server, its bus, and a connection of its own."""

    def __init__(self, stage: Scene, number: int, queue: int, on_gap: Callable[[Gap], object] | None) -> None:
        self.stage = stage
        self.gaps: list[Gap] = []
        self.bus = Bus(stage.turn, number, on_gap=on_gap or self.gaps.append, queue=queue)
        self.link: Link = stage.link()

    def attach(self, path: str = "/") -> None:
        self.served = self.bus.attach(path, self.stage.hub)

    def connect_peer(self) -> Peer:
        """Connect an exchange that the test plays."""
        mine, other = pair()
        self.bus.connect(mine.detach())
        return Peer(other)


@contextmanager
def worker(
    number: int = 1, queue: int = 1 << 20, on_gap: Callable[[Gap], object] | None = None, **limits: Any
) -> Iterator[Worker]:
    """A worker whose loop turns by itself only."""
    with scene(direct=True, **limits) as stage:
        stage.turn.poller = Poller(stage.loop)
        made = Worker(stage, number, queue, on_gap)
        made.attach()
        try:
            yield made
        finally:
            made.bus.close()
            stage.turn.poller.close()


@contextmanager
def switch() -> Iterator[tuple[Scene, Switch]]:
    """An exchange without its process."""
    with scene(direct=True) as stage:
        stage.turn.poller = Poller(stage.loop)
        try:
            yield stage, Switch(stage.turn)
        finally:
            stage.turn.poller.close()


def join(made: Switch, number: int, queue: int = 1 << 20, buffer: int | None = None) -> Peer:
    """Connect a worker that the test plays."""
    mine, other = pair()
    if buffer is not None:
        mine.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
    made.add(mine.detach(), number, queue)
    return Peer(other)


class Exchange:
    """An exchange's process, and the supervisor's end of its control socket.

    Args:
        buses: That it has from the beginning.
    """

    def __init__(self, *buses: Bus) -> None:
        self.control, other = socket.socketpair()
        for bus in buses:
            self.connect(bus)
        with other:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "crest.cluster.exchange", str(other.fileno())],
                pass_fds=[other.fileno()],
                stderr=subprocess.PIPE,
            )

    def line(self, line: bytes, *fds: int) -> None:
        """Send a line as the supervisor does."""
        socket.send_fds(self.control, [line + b"\n"], list(fds))

    def connect(self, bus: Bus, queue: int = 1 << 26) -> None:
        """Connect a worker of this process."""
        mine, other = pair()
        with other:
            self.line(json.dumps({"link": bus.number, "queue": queue}).encode(), other.fileno())
        bus.connect(mine.detach())

    def connect_peer(self, number: int, queue: int = 1 << 26) -> Peer:
        """Connect a worker that the test plays."""
        mine, other = pair()
        with other:
            self.line(json.dumps({"link": number, "queue": queue}).encode(), other.fileno())
        return Peer(mine)

    def kill(self) -> None:
        """End it as the kernel does that has no memory left."""
        self.process.kill()
        self.process.wait()

    def close(self) -> tuple[int, str]:
        """Let it end; returns its exit code and what it has logged."""
        self.control.close()
        _, errors = self.process.communicate(timeout=30)
        return self.process.returncode, errors.decode()


@contextmanager
def exchange(*buses: Bus) -> Iterator[Exchange]:
    """A process that is gone in the end."""
    made = Exchange(*buses)
    try:
        yield made
    finally:
        made.process.kill()
        made.close()


def until(condition: Callable[[], bool], *stages: Scene) -> None:
    """Let loops turn until something has happened that other processes have a part in."""
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "it does not happen"
        for stage in stages:
            stage.end_turn()
        select.select([], [], [], 0.0005)
