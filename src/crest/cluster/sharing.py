"""What a worker has in common with the others: its servers' broadcasts, their limits, and the members of rooms."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from typing import Any, Final

from crest.cluster.bus import Bus
from crest.cluster.directory import Directory
from crest.cluster.enlisted import Enlisted
from crest.cluster.shared import ENTRIES, Shared
from crest.connection import process_name
from crest.gap import Gap
from crest.listening.listener import Listener
from crest.log import logger
from crest.server import WebSocketServer

PARTING: Final = 1.0
"""Seconds for the last broadcasts to leave for other workers."""

STEP: Final = 0.01
"""Seconds after which it is looked again whether they have."""


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
        listener.mounted, listener.parting = self._attach, self._part
        listener.site.census = self._memory.census
        listener.site.share(self._memory.ledger)
        listener.turn.budget.share(self._memory.census)
        self._memory.census.begin()
        self._full = False

    def connect(self, descriptor: int) -> None:
        """Use an exchange, the first one or the next."""
        os.set_blocking(descriptor, False)
        self._bus.connect(descriptor)

    def stop_accepting(self) -> None:
        """Leave connections that come to other workers."""
        self._memory.census.end()

    def look(self) -> None:
        """Tell the log, once, if more is counted than there is room for; to be called now and then."""
        if self._memory.ledger.refused and not self._full:
            self._full = True
            logger.warning(
                "More clients and addresses are counted than memory is shared for (%d): limits of further ones hold in "
                "each worker alone",
                ENTRIES * 3 // 4,
            )

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

    async def _part(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(PARTING):
                while self._bus.waiting:
                    await asyncio.sleep(STEP)
        if self._bus.waiting:
            logger.warning("The last %d bytes for other workers could not be sent", self._bus.waiting)

    def _gap(self, gap: Gap) -> None:
        """Have the servers hear that messages of other workers were lost."""
        for server in self._servers:
            server._heard_of_gap(gap)
