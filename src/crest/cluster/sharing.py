"""What a worker has in common with the others: its servers' broadcasts, their limits, and the members of rooms."""

from __future__ import annotations

import os
from typing import Any

from crest.cluster.bus import Bus
from crest.cluster.directory import Directory
from crest.cluster.enlisted import Enlisted
from crest.cluster.shared import Shared
from crest.connection import process_name
from crest.gap import Gap
from crest.listening.listener import Listener
from crest.server import WebSocketServer


class Sharing:
    """Has the servers of a listener share with those of other workers. No client is let in yet.

    Args:
        listener: With the servers; more may be mounted.
        part: What this worker was told as it was started.
    """

    def __init__(self, listener: Listener, part: Enlisted) -> None:
        self._bus = Bus(listener.turn, part.serial, process=process_name(), on_gap=self._gap)
        self._directory = Directory(self._bus, listener.loop)
        self._memory = Shared(part.shared, part.slot, part.slots)
        self._servers: list[WebSocketServer[Any]] = []
        for path, server in listener.servers.items():
            self._attach(path, server)
        listener.mounted = self._attach
        listener.site.census = self._memory.census
        listener.site.share(self._memory.ledger)
        listener.turn.budget.share(self._memory.census)
        self._memory.census.begin()

    def connect(self, descriptor: int) -> None:
        """Use an exchange, the first one or the next."""
        os.set_blocking(descriptor, False)
        self._bus.connect(descriptor)

    def stop_accepting(self) -> None:
        """Leave connections that come to other workers."""
        self._memory.census.end()

    def close(self) -> None:
        self._directory.close()
        self._bus.close()

    def _attach(self, path: str, server: WebSocketServer[Any]) -> None:
        """Share a server: it is the same one in all workers that has this path."""
        if not any(each is server for each in self._servers):
            self._servers.append(server)
            served = self._bus.attach(path, server._hub)
            server._elsewhere = self._directory.attach(path, server._hub, served)
            server._admission.share(self._memory.ledger, path)
            server._hub.tally.share(self._memory.ledger, f"connections of {path}")

    def _gap(self, gap: Gap) -> None:
        """Have the servers hear that messages of other workers were lost."""
        for server in self._servers:
            server._heard_of_gap(gap)
