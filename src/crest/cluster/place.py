"""Workers, and the places that always have one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from crest.cluster.backoff import LONGEST, Backoff
from crest.cluster.child import Child, how
from crest.cluster.control import Message
from crest.log import logger

BUSY: Final = 5.0
"""Seconds without a sign of life after which a worker is named."""


class Worker(Child):
    """A worker.

    Args:
        heard: Is called with it and each thing that it says.

    Attributes:
        number: Its place, from 1.
        serial: Counts all workers there have been.
        slot: Its place in the shared memory.
        ready: Is set when it serves.
        stopping: True once it was told to end.
    """

    def __init__(self, number: int, serial: int, slot: int, heard: Callable[[Worker, Message], None]) -> None:
        super().__init__(f"worker {number}")
        self.number = number
        self.serial = serial
        self.slot = slot
        self.ready = asyncio.Event()
        self.stopping = False
        self._heard = heard
        self._busy = False

    @property
    def serves(self) -> bool:
        return self.ready.is_set() and not self.stopping and not self.ended.is_set()

    def stop(self, *, replaced: bool) -> None:
        """Tell it to end.

        Args:
            replaced: True: others go on to serve. It leaves the listening sockets to them at once.
        """
        self.stopping = True
        self.tell({"stop": "replaced" if replaced else "all"})

    async def started(self) -> bool:
        """Wait until it serves, or has ended. True if it serves."""
        waits = [asyncio.ensure_future(each.wait()) for each in (self.ready, self.ended)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()
        return self.ready.is_set() and not self.ended.is_set()

    def look(self, now: float) -> None:
        """Name it if it has given no sign of life for long, and again once it does."""
        silent = now - self.heard
        if self.serves and silent >= BUSY and not self._busy:
            self._busy = True
            logger.warning("%s (process %d) is busy: its loop has not turned for %.0f s", self.name, self.pid, silent)
        elif self._busy and silent < BUSY:
            self._busy = False
            logger.info("%s is no longer busy", self.name)

    def told(self, message: Message) -> None:
        if message.get("ready"):
            self.ready.set()
        self._heard(self, message)


class Place:
    """One of the places that always have a worker.

    Args:
        number: From 1.
        start: Starts a worker for a place.

    Attributes:
        worker: The one that serves here, or is about to.
        served: Is set once one has served.
    """

    def __init__(self, number: int, start: Callable[[int], Awaitable[Worker]]) -> None:
        self._number = number
        self._start = start
        self._changing = asyncio.Lock()
        self.worker: Worker | None = None
        self.served = asyncio.Event()

    async def keep(self) -> None:
        """Have a worker here, until this is cancelled."""
        backoff = Backoff()
        loop = asyncio.get_running_loop()
        while True:
            async with self._changing:
                if self.worker is None or self.worker.ended.is_set():
                    self.worker = await self._start(self._number)
                worker, began = self.worker, loop.time()
            if await worker.started():
                self.served.set()
            await worker.ended.wait()
            if worker is not self.worker:
                continue
            if worker.ready.is_set() and loop.time() - began > LONGEST:
                backoff.succeed()
            wait = 0.0 if worker.code == 0 else backoff.fail()
            said = "%s (process %d) has ended: %s; the next one starts in %.1f s"
            logger.error(said, worker.name, worker.pid, how(worker.code), wait)
            await asyncio.sleep(wait)

    async def replace(self) -> bool:
        """Start another worker, and when it serves end the one that did. False if it has ended before."""
        async with self._changing:
            successor = await self._start(self._number)
            try:
                serves = await successor.started()
            except asyncio.CancelledError:
                successor.stop(replaced=True)
                raise
            if not serves:
                return False
            before, self.worker = self.worker, successor
        if before is not None:
            before.stop(replaced=True)
            await before.ended.wait()
        return True
