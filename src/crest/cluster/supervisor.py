"""The supervisor: the process that starts the workers, and sees to it that they run.

It is the program's first process. It has opened the listening sockets, and serves no client: each worker is the
program, run anew, which gets them. So a worker has the program's newest code, its own threads, and nothing of the
supervisor's.
Messages between them are lines of JSON (control.py). What must hold:

- A worker that ends is started again, after a while. If the first one ends before it is ready, everything ends.
- A worker is never killed for being busy. It is named.
- A worker is replaced only once its successor is ready.
- A worker whose supervisor is gone ends by itself.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

from crest.cluster.backoff import LONGEST, Backoff
from crest.cluster.child import Child, how
from crest.cluster.control import Message
from crest.cluster.enlisted import VARIABLE
from crest.cluster.notify import notify, reloading, watchdog_interval
from crest.cluster.place import Place, Worker
from crest.cluster.shared import Shared, make_shared
from crest.exceptions import ConfigurationError
from crest.listening.endpoint import AnyAddress, Endpoint, SocketAddress
from crest.listening.listener import announce
from crest.listening.signals import handling
from crest.log import logger

FAILED: Final = 3
"""Exit code if the first worker can not start."""

GRACE: Final = 10.0
"""Seconds that a worker may take to end beyond those that its connections and `on_stop` have."""


class Supervisor:
    """The workers of one app.

    Args:
        count: How many there are.
        endpoints: What they listen on.
        timeout: Seconds that a worker may take to end, beyond GRACE.
        run: Which call of `App.run` with workers this is, of those of this process.
    """

    def __init__(self, count: int, endpoints: Sequence[Endpoint], timeout: float, run: int) -> None:
        self._places = [Place(number, self._start_worker) for number in range(1, count + 1)]
        self._endpoints = endpoints
        self._timeout = timeout
        self._run = run
        self._workers: set[Worker] = set()
        self._serials = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        self._ending = asyncio.Event()
        self._urges = 0
        self._rolling: asyncio.Task[None] | None = None
        self._once: Worker | None = None
        self._exchange: Child | None = None
        self._slots = 4 * count + 1  # more than places: those that were replaced may still be closing connections
        self._descriptor = make_shared(self._slots)
        self._shared = Shared(self._descriptor, self._slots - 1, self._slots)
        self._free = set(range(self._slots - 1))

    async def run(self) -> int:
        """Run the workers until SIGINT or SIGTERM. Returns the exit code."""
        actions: dict[int, Callable[[], None]] = {
            signal.SIGINT: self.stop,
            signal.SIGTERM: self.stop,
            signal.SIGHUP: self.reload,
            signal.SIGUSR2: self.roll,
        }
        with handling(actions):
            try:
                self._spawn(self._look())
                self._spawn(self._keep_exchange())
                return await self._serve()
            finally:
                await asyncio.shield(self._end())

    async def _serve(self) -> int:
        first = self._places[0].worker = await self._start_worker(1)
        if not await first.started():
            if self._ending.is_set():
                return 0
            logger.error("The first worker could not start: %s", how(first.code))
            return FAILED
        for place in self._places:
            self._spawn(place.keep())
        await self._all_serve()
        if not self._ending.is_set():
            logger.info("%d workers serve", len(self._places))
            notify("READY=1", f"STATUS={len(self._places)} workers")
        await self._ending.wait()
        return 0

    async def _all_serve(self) -> None:
        """Wait until there is a worker that serves at each place, or the end begins."""
        serving = asyncio.gather(*(place.served.wait() for place in self._places))
        ending = self._spawn(self._ending.wait())
        await asyncio.wait([serving, ending], return_when=asyncio.FIRST_COMPLETED)
        serving.cancel()

    def _spawn(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # ---- Workers -------------------------------------------------------------------------------------------------

    async def _start_worker(self, number: int) -> Worker:
        """Start a worker for a place.

        Raises:
            OSError: That can not be.
        """
        self._serials += 1
        worker = Worker(number, self._serials, min(self._free), self._hear)
        self._free.discard(worker.slot)
        sockets = [each.fileno() for endpoint in self._endpoints for each in endpoint.sockets]
        self._workers.add(worker)
        if self._exchange is not None:
            self._connect(worker, self._exchange)
        try:
            await worker.start(again(), self._environment(worker), [self._descriptor, *sockets])
        except OSError:
            self._forget(worker)
            raise
        self._spawn(self._watch(worker))
        if self._ending.is_set():
            worker.stop(replaced=False)
        return worker

    def _environment(self, worker: Worker) -> dict[str, str]:
        order = {
            "supervisor": os.getpid(),
            "number": worker.number,
            "serial": worker.serial,
            "run": self._run,
            "control": worker.control,
            "shared": self._descriptor,
            "slot": worker.slot,
            "slots": self._slots,
            "endpoints": [
                {"sockets": [each.fileno() for each in endpoint.sockets], "tls": endpoint.tls}
                for endpoint in self._endpoints
            ],
        }
        return {**os.environ, VARIABLE: json.dumps(order)}

    # ---- The exchange --------------------------------------------------------------------------------------------

    async def _keep_exchange(self) -> None:
        """Have an exchange, until this is cancelled."""
        backoff = Backoff()
        time = asyncio.get_running_loop().time
        while True:
            began = time()
            exchange = self._exchange = Child("the exchange")
            for worker in self._workers:  # told before it runs: it loses nothing between two of them
                self._connect(worker, exchange)
            command = [sys.executable, "-P", "-m", "crest.cluster.exchange", str(exchange.control)]
            await exchange.start(command, os.environ, [])
            await exchange.ended.wait()
            if time() - began > LONGEST:
                backoff.succeed()
            wait = backoff.fail()
            logger.error("The exchange has ended: %s; the next one starts in %.1f s", how(exchange.code), wait)
            await asyncio.sleep(wait)

    def _connect(self, worker: Worker, exchange: Child) -> None:
        """Connect a worker with an exchange. Both may be yet to start."""
        one, other = socket.socketpair()
        with one, other:
            exchange.tell({"link": worker.serial}, one.fileno())
            worker.tell({"exchange": True}, other.fileno())

    # ---- What workers say ----------------------------------------------------------------------------------------

    async def _watch(self, worker: Worker) -> None:
        await worker.ended.wait()
        self._forget(worker)
        self._choose_once()

    def _forget(self, worker: Worker) -> None:
        self._workers.discard(worker)
        self._shared.clear(worker.slot)
        self._free.add(worker.slot)

    async def _look(self) -> None:
        """Look after the workers once a second, and as often as the service manager wants to hear of that."""
        watchdog = watchdog_interval()
        interval = min(1.0, watchdog or 1.0)
        time = asyncio.get_running_loop().time
        while True:
            if watchdog is not None:
                notify("WATCHDOG=1")
            for worker in self._workers:
                worker.look(time())
            await asyncio.sleep(interval)

    def _hear(self, worker: Worker, message: Message) -> None:
        """Hear what a worker says."""
        if message.get("left_once") and worker is self._once:
            self._once = None
        self._choose_once()

    def _choose_once(self) -> None:
        """Have the functions of `once` run in one worker, if none runs them."""
        if self._once is not None and not self._once.ended.is_set():
            return
        self._once = min((each for each in self._workers if each.serves), key=lambda each: each.number, default=None)
        if self._once is not None:
            self._once.tell({"take_once": True})

    # ---- Signals -------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """End everything; at a second call without waiting for clients, at a third at once."""
        self._urges += 1
        self._ending.set()
        for worker in self._workers:
            if self._urges == 1:
                worker.stop(replaced=False)
            elif self._urges == 2:
                worker.tell({"hurry": True})
            else:
                worker.kill()

    def reload(self) -> None:
        """Have all workers read their certificates again."""
        notify(*reloading())
        for worker in self._workers:
            worker.tell({"reload": True})
        notify("READY=1")

    def roll(self) -> None:
        """Replace all workers, one after the other. A roll that is on its way ends."""
        if self._ending.is_set():
            return
        if self._rolling is not None:
            self._rolling.cancel()
        self._rolling = self._spawn(self._roll(self._rolling))

    async def _roll(self, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait([before])
        notify(*reloading())
        logger.info("Replacing %d workers", len(self._places))
        try:
            for place in self._places:
                if not await place.replace():
                    logger.error("A new worker could not start: those that run go on")
                    return
            logger.info("%d workers were replaced", len(self._places))
        finally:
            notify("READY=1")

    # ---- The end -------------------------------------------------------------------------------------------------

    async def _end(self) -> None:
        if not self._urges:
            self.stop()
        for task in self._tasks:
            task.cancel()
        notify("STOPPING=1")
        for endpoint in self._endpoints:  # the workers have theirs
            for each in endpoint.sockets:
                each.close()
        waits = [asyncio.ensure_future(worker.ended.wait()) for worker in self._workers]
        if waits:
            _, late = await asyncio.wait(waits, timeout=self._timeout + GRACE)
            for worker in [each for each in self._workers if not each.ended.is_set()]:
                worker.kill()
            if late:
                await asyncio.wait(late)
        logger.info("All workers have ended")
        if self._exchange is not None:
            self._exchange.leave()
            await self._exchange.ended.wait()
        os.close(self._descriptor)


async def supervise(
    count: int, run: int, addresses: Sequence[AnyAddress], certified: bool, paths: Sequence[str], timeout: float
) -> int:
    """Have workers serve until the end. Returns the exit code.

    Args:
        count: How many.
        addresses: Where they listen.
        certified: True if there is a certificate.
        paths: Of the WebSocketServers, for the log.
        run, timeout: See `Supervisor`.

    Raises:
        ListenError: An address can not be bound.
        ConfigurationError: This is not the main thread, or the program has bound the sockets itself.
    """
    if threading.current_thread() is not threading.main_thread():
        raise ConfigurationError("with workers, run must be called in the main thread")
    if any(isinstance(each, SocketAddress) for each in addresses):
        raise ConfigurationError("with workers, listen takes no sockets: each worker would bind them anew")
    endpoints: list[Endpoint] = []
    try:
        for address in addresses:
            endpoints += await address.open(certified)
        for endpoint in endpoints:
            announce(endpoint, paths)
        return await Supervisor(count, endpoints, timeout, run).run()
    finally:
        for endpoint in endpoints:
            endpoint.close()


def again() -> list[str]:
    """Return the command that starts this program once more."""
    return [sys.executable, *sys.orig_argv[1:]]
