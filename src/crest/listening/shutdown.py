"""The end of serving: its order, its time, and the farewell to clients.

Connections are closed in batches, and each client is told when to come back. So neither the loop, nor the server that
clients come to next, has to do with all of them at once. What closing one means is io/life/protocol.pyx's business.
"""

from __future__ import annotations

import asyncio
from random import random
from typing import Final
from typing import Protocol as Interface

from crest.io.life.protocol import Protocol
from crest.log import logger
from crest.opening.parting import Random
from crest.opening.site import Site

INTERVAL: Final = 0.02
"""Seconds from one batch to the next, on average. What would be over sooner is done at once."""

AT_ONCE = 100
"""Connections that are closed, or cut off, until the loop has a turn for others: some 2 ms."""

LAST_WAIT = 1.0
"""Seconds for cancelled handlers to end when `shutdown_timeout` is over, and as many for on_close."""


def closing_time(count: int, rate: float | None, longest: float) -> float:
    """Return the seconds that closing so many connections takes: at `rate` a second, or faster, to take no longer than
    `longest`. Without a rate, none."""
    return 0.0 if rate is None else min(count / rate, longest)


def batches(count: int, seconds: float, random: Random) -> list[tuple[float, int]]:
    """Plan the batches in which to close so many connections within so many seconds: pairs of when, in seconds from
    now, and how many.

    The first is due now. Each of the others is due anywhere in a stretch of its own: servers that are told to stop at
    the same moment do not keep step.
    """
    number = max(1, min(int(seconds / INTERVAL), count))
    least, more = divmod(count, number)
    return [(max(0.0, (i - 1 + random()) * seconds / number) if i else 0.0, least + (i < more)) for i in range(number)]


class Doors(Interface):
    """The places where connections come in."""

    def stop_accepting(self, *, passed_only: bool = False) -> None:
        """Close the listening sockets, or only those that were passed to this process."""

    async def settled(self) -> None:
        """Wait until all connections that were accepted have been opened, or closed."""


class Shutdown:
    """The end of one site.

    Args:
        site: What ends.
        doors: Where its connections come in.
        timeout: Seconds that all of it may take, but for handlers that ignore their cancellation.
        close_rate, keep_listening: See `App`.
    """

    def __init__(
        self,
        site: Site,
        doors: Doors,
        timeout: float,
        close_rate: float | None,
        keep_listening: bool,
    ) -> None:
        self._site = site
        self._doors = doors
        self._loop = site.loop
        self._timeout = timeout
        self._close_rate = close_rate
        self._keep_listening = keep_listening
        self._hurried = False
        self._dealt_with = 0
        self._changed = asyncio.Event()

    # ---- What others tell it -------------------------------------------------------------------------------------

    def hurry(self) -> None:
        """Wait no longer, for whatever is being waited for."""
        self._hurried = True
        self._changed.set()

    def all_ended(self) -> None:
        """Learn that the last connection is gone."""
        self._changed.set()

    # ---- Its course ----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """End everything. WebSockets are closed first. When no client is left to be told to come back later, the
        listening sockets and all other connections follow. Wait for the clients' answers and for handlers; at last,
        cut off what is left."""
        site, doors, began = self._site, self._doors, self._loop.time()
        clients = [each for each in site.protocols if each.connection is not None]
        count, deadline = len(clients), began + self._timeout
        seconds = closing_time(count, self._close_rate, self._timeout / 2)
        site.parting.begin(seconds)
        logger.info("Shutting down; closing %d connections over %.1f s", count, seconds)
        doors.stop_accepting(passed_only=self._keep_listening)
        for opening in site.openings():
            opening.stop_deciding()
        await self._close(clients, began, seconds)
        doors.stop_accepting()
        await doors.settled()
        for each in list(site.protocols):
            if each.opening is not None:
                each.opening.stop()
                await self._give_way()
        await asyncio.sleep(0)  # the close frames leave with this turn of the loop
        cut = 0
        if not await self._all_end(deadline):
            cut = sum(each.connection is not None for each in site.protocols)
            await self._cut_off(self._loop.time() - began)
        seconds = self._loop.time() - began
        logger.info("Stopped after %.1f s; of %d connections, %d were cut off", seconds, count, cut)

    async def _close(self, clients: list[Protocol], began: float, seconds: float) -> None:
        clients.reverse()
        for at, size in batches(len(clients), seconds, random):
            await self._all_end(began + at)
            for _ in range(size):
                clients.pop().stop(*self._site.parting.farewell())
                await self._give_way()

    async def _cut_off(self, seconds: float) -> None:
        site = self._site
        logger.warning("%d connections did not close within %.1f s and are cut off", len(site.protocols), seconds)
        for _ in ("a message's handler", "on_close"):
            for protocol in list(site.protocols):
                protocol.end_now()
                await self._give_way()
            self._hurried = False
            if await self._all_end(self._loop.time() + LAST_WAIT):
                return
        logger.error("handlers of %d connections ignore their cancellation", len(site.protocols))

    async def _give_way(self) -> None:
        """Count one more that was closed, or cut off, and let the loop turn when these are many."""
        self._dealt_with = (self._dealt_with + 1) % AT_ONCE
        if not self._dealt_with:
            await asyncio.sleep(0)

    async def _all_end(self, deadline: float) -> bool:
        """Wait for all connections, and their handlers, to end: until the deadline at most, and no longer once hurried.
        Returns True if they have."""
        try:
            async with asyncio.timeout_at(deadline):
                while self._site.protocols and not self._hurried:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            pass
        return not self._site.protocols
