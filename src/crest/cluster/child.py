"""A process that the supervisor has started, and what is known of it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Iterator, Mapping, Sequence
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

    Attributes:
        ended: Is set when it has ended.
        code: Its exit code then; negative for a signal.
        heard: When it gave a sign of life, by the loop's clock.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.ended = asyncio.Event()
        self.code: int | None = None
        self._loop = asyncio.get_running_loop()
        self.heard = self._loop.time()
        own, self._other = socket.socketpair()
        self._control = Control(own, self._hear, _ignore)
        self._process: asyncio.subprocess.Process | None = None
        self._waiting: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def control(self) -> int:
        """The descriptor that it finds its end of the control at."""
        return self._other.fileno()

    async def start(self, command: Sequence[str], environment: Mapping[str, str], descriptors: Sequence[int]) -> None:
        """Start it. It has been told already what it finds at `control`.

        Args:
            command: The program and its arguments.
            environment: Its environment.
            descriptors: What it gets beside the control.

        Raises:
            OSError: That can not be.
        """
        with self._other:
            try:
                with _masked():
                    self._process = await asyncio.create_subprocess_exec(
                        *command, env=environment, pass_fds=[self.control, *descriptors]
                    )
            except BaseException:
                self._control.close()
                raise
        self._waiting = self._loop.create_task(self._wait())

    def tell(self, message: Message, *descriptors: int) -> None:
        """Send it a message, with duplicates of descriptors. No-op if it has ended."""
        self._control.send(message, *descriptors)

    def told(self, message: Message) -> None:
        """Hear what it says; what it says nothing of is a sign of life."""

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None and not self.ended.is_set():
            logger.error("%s is killed", self.name)
            self._process.kill()

    def leave(self) -> None:
        """Close the control: the process ends by itself."""
        self._control.close()

    def _hear(self, message: Message, descriptors: list[int]) -> None:
        for descriptor in descriptors:
            os.close(descriptor)
        self.heard = self._loop.time()
        self.told(message)

    async def _wait(self) -> None:
        assert self._process is not None
        self.code = await self._process.wait()
        self._control.close()
        self.ended.set()


def _ignore() -> None:
    """The control is closed as the process ends, which is heard of otherwise."""


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
