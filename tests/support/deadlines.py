"""For tests: which deadlines connections have, in place of waiting for them. Only on the event loop's transports, whose
protocol is Python's to change."""

from __future__ import annotations

import asyncio

import pytest

from crest.io.life.protocol import ServerProtocol
from support.client import GUARD


class Deadlines:
    """The deadlines of a connection, as they are set; 0: there is none any more."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: list[float] = []
        set_deadline, clear_deadline = ServerProtocol.set_deadline, ServerProtocol.clear_deadline

        def set_and_note(protocol: ServerProtocol, seconds: float) -> None:
            self.seen.append(seconds)
            set_deadline(protocol, seconds)

        def clear_and_note(protocol: ServerProtocol) -> None:
            self.seen.append(0)
            clear_deadline(protocol)

        monkeypatch.setattr(ServerProtocol, "set_deadline", set_and_note)
        monkeypatch.setattr(ServerProtocol, "clear_deadline", clear_and_note)

    async def until(self, expected: list[float]) -> None:
        """These have been set since this was asked last, no more and no less."""
        async with asyncio.timeout(GUARD):
            while len(self.seen) < len(expected):
                await asyncio.sleep(0)
        assert self.seen == expected
        self.seen.clear()
