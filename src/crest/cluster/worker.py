"""A worker's side of the supervisor: it is told to stop, and tells that it serves."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable
from typing import Final, Protocol

from crest.cluster.control import Control, Message
from crest.cluster.enlisted import Enlisted
from crest.listening.endpoint import Endpoint
from crest.log import logger

BEAT: Final = 1.0
"""Seconds between two signs of life."""


class Run(Protocol):
    """A run of the app, as the supervisor has a say in it."""

    def stop(self) -> None:
        """Shut down; at a second call without waiting for clients."""

    def reload(self) -> None:
        """Read the certificate again."""

    def take_once(self) -> None:
        """Run the functions of `once` from now on."""


class Reporter:
    """Speaks with the supervisor, on the running loop.

    Args:
        part: What this worker was told as it was started.
        run: The run of the app.
        endpoints: Where it listens.
    """

    def __init__(self, part: Enlisted, run: Run, endpoints: list[Endpoint]) -> None:
        self._loop = asyncio.get_running_loop()
        self._run = run
        self._endpoints = endpoints
        self._stopping = False
        self._control = Control(socket.socket(fileno=part.control), self._hear, self._orphaned)
        self._beat()

    def ready(self) -> None:
        """Tell that the app serves."""
        self._control.send({"ready": True})

    def left_once(self) -> None:
        """Tell that the functions of `once` have ended here."""
        self._control.send({"left_once": True})

    def close(self) -> None:
        self._timer.cancel()
        self._control.close()

    def _beat(self) -> None:
        self._control.send({})
        self._timer = self._loop.call_later(BEAT, self._beat)

    def _hear(self, message: Message, descriptors: list[int]) -> None:
        for descriptor in descriptors:
            os.close(descriptor)
        if "stop" in message:
            self._stop(replaced=message["stop"] == "replaced")
        elif "hurry" in message:
            self._run.stop()
        elif "reload" in message:
            self._run.reload()
        elif "take_once" in message:
            self._run.take_once()

    def _stop(self, *, replaced: bool) -> None:
        if not self._stopping:
            self._stopping = True
            for endpoint in self._endpoints:  # what others accept at is closed at once
                endpoint.passed = replaced
            self._run.stop()

    def _orphaned(self) -> None:
        logger.error("The supervisor is gone: this worker ends")
        self._stop(replaced=False)
