"""A worker's side of the supervisor: it is told to stop, and tells that it serves."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from crest.cluster.child import MASKED
from crest.cluster.control import Control, Message
from crest.cluster.enlisted import Enlisted
from crest.cluster.sharing import Sharing
from crest.lifetime import Lifetime
from crest.listening.endpoint import Endpoint
from crest.listening.listener import Listener
from crest.log import logger
from crest.running import Run

BEAT: Final = 1.0
"""Seconds between two signs of life."""


@contextmanager
def reporting(part: Enlisted, run: Run, lifetime: Lifetime, endpoints: list[Endpoint]) -> Iterator[Reporter]:
    """Speak with the supervisor while the context lasts. For the arguments see `Reporter`."""
    for number in MASKED:  # the supervisor gets them, too, and says what is to happen
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, MASKED)
    reporter = Reporter(part, run, lifetime, endpoints)
    lifetime.left = reporter.left_once
    try:
        yield reporter
    finally:
        lifetime.left = None
        reporter.close()


class Reporter:
    """Speaks with the supervisor, on the running loop.

    Args:
        part: What this worker was told as it was started.
        run: The run of the app.
        lifetime: The app's.
        endpoints: Where it listens.
    """

    def __init__(self, part: Enlisted, run: Run, lifetime: Lifetime, endpoints: list[Endpoint]) -> None:
        self._loop = asyncio.get_running_loop()
        self._run = run
        self._lifetime = lifetime
        self._endpoints = endpoints
        self._stopping = False
        self._part = part
        self._sharing: Sharing | None = None
        self._exchange = -1  # a descriptor that came before that
        self._control = Control(socket.socket(fileno=part.control), self._hear, self._orphaned)
        self._beat()

    def bound(self, listener: Listener) -> None:
        """Share what the servers do with other workers from now on; no client is let in yet."""
        self._sharing = Sharing(listener, self._part)
        if self._exchange >= 0:
            self._sharing.connect(self._exchange)
            self._exchange = -1

    def ready(self) -> None:
        """Tell that the app serves."""
        self._control.send({"ready": True})

    def left_once(self) -> None:
        """Tell that the functions of `once` have ended here."""
        self._control.send({"left_once": True})

    def close(self) -> None:
        self._timer.cancel()
        self._control.close()
        if self._sharing is not None:
            self._sharing.close()
        if self._exchange >= 0:
            os.close(self._exchange)

    def _use_exchange(self, descriptor: int) -> None:
        if self._sharing is not None:
            self._sharing.connect(descriptor)
            return
        if self._exchange >= 0:  # it has ended already, and another one has begun
            os.close(self._exchange)
        self._exchange = descriptor

    def _beat(self) -> None:
        self._control.send({})
        if self._sharing is not None:
            self._sharing.look()
        self._timer = self._loop.call_later(BEAT, self._beat)

    def _hear(self, message: Message, descriptors: list[int]) -> None:
        if "exchange" in message:
            self._use_exchange(*descriptors)
        elif "stop" in message:
            self._stop(replaced=message["stop"] == "replaced")
        elif "hurry" in message:
            self._run.stop()
        elif "reload" in message:
            self._run.reload()
        elif "take_once" in message:
            self._lifetime.take_once()

    def _stop(self, *, replaced: bool) -> None:
        if not self._stopping:
            self._stopping = True
            if self._sharing is not None:
                self._sharing.stop_accepting()
            for endpoint in self._endpoints:  # what others accept at is closed at once
                endpoint.passed = replaced
            self._run.stop()

    def _orphaned(self) -> None:
        logger.error("The supervisor is gone: this worker ends")
        self._stop(replaced=False)
