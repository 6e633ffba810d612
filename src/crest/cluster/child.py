"""A process that the supervisor has started, and what is known of it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from crest.cluster.control import Control, Message
from crest.log import logger

MASKED: Final = (signal.SIGINT,)
"""Signals that a terminal sends to the supervisor's children as well. They come to nothing until the child is ready for
them: the supervisor says what is to happen."""


class Child:
    """One process.

    Args:
        name: In the log: "worker 2".
        told: Is called with what it says.

    Attributes:
        ended: Is set when it has ended.
        code: Its exit code then; negative for a signal.
        heard: When it gave a sign of life, by the loop's clock.
    """

    def __init__(self, name: str, told: Callable[[Message], None]) -> None:
        self.name = name
        self.ended = asyncio.Event()
        self.code: int | None = None
        self._loop = asyncio.get_running_loop()
        self.heard = self._loop.time()
        self._told = told
        self._process: asyncio.subprocess.Process | None = None
        self._control: Control | None = None
        self._waiting: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def start(
        self, command: Sequence[str], environment: Callable[[int], Mapping[str, str]], descriptors: Sequence[int]
    ) -> None:
        """Start it.

        Args:
            command: The program and its arguments.
            environment: Returns its environment, for the descriptor of its end of the control.
            descriptors: Others that it gets.

        Raises:
            OSError: That can not be.
        """
        own, other = socket.socketpair()
        with other:
            number = other.fileno()
            try:
                with _masked():
                    self._process = await asyncio.create_subprocess_exec(
                        *command, env=environment(number), pass_fds=[number, *descriptors]
                    )
            except BaseException:
                own.close()
                raise
        self._control = Control(own, self._hear, lambda: None)
        self._waiting = self._loop.create_task(self._wait())

    def tell(self, message: Message, *descriptors: int) -> None:
        """Send it a message, with duplicates of descriptors. No-op if it has ended."""
        if self._control is not None:
            self._control.send(message, *descriptors)

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None and not self.ended.is_set():
            logger.error("%s is killed", self.name)
            self._process.kill()

    def leave(self) -> None:
        """Close the control: the process ends by itself."""
        if self._control is not None:
            self._control.close()

    def _hear(self, message: Message, descriptors: list[int]) -> None:
        for descriptor in descriptors:
            os.close(descriptor)
        self.heard = self._loop.time()
        self._told(message)

    async def _wait(self) -> None:
        assert self._process is not None and self._control is not None
        self.code = await self._process.wait()
        self._control.close()
        self.ended.set()


_masks = 0


@contextmanager
def _masked() -> Iterator[None]:
    """Have a process that is started begin with these signals masked. Several may be started at a time."""
    global _masks
    if not _masks:
        signal.pthread_sigmask(signal.SIG_BLOCK, MASKED)
    _masks += 1
    try:
        yield
    finally:
        _masks -= 1
        if not _masks:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, MASKED)


def how(code: int | None) -> str:
    """Say how a process has ended, by its exit code."""
    if code is None or code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
