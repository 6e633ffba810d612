"""An on_upgrade that a test decides for, and clients that ask whether they may come in."""

import asyncio
from typing import Any

from crest import Request, WebSocketServer
from support.client import GUARD, Answer, Server, handshake, tcp
from support.events import Events


async def answer_to(server: Server, changed: dict[str, str | None] | None = None, path: str = "/ws") -> Answer:
    async with tcp(server) as client:
        await client.send(handshake(path, changed))
        return await client.answer()


async def all_gone(ws: WebSocketServer, server: Any) -> None:
    """Wait until the server has noticed that nobody is there."""
    async with asyncio.timeout(GUARD):
        while server.protocols:
            await asyncio.sleep(0)


class Decision:
    """An async on_upgrade that a test decides for."""

    def __init__(self, ws: WebSocketServer) -> None:
        self.begun = Events()
        self.ended = Events()
        self.decide = asyncio.Event()
        ws.on_upgrade(self.upgrade)

    async def upgrade(self, request: Request) -> str:
        self.begun.add(request)
        try:
            await self.decide.wait()
        except asyncio.CancelledError:
            self.ended.add("cancelled")
            raise
        self.ended.add("decided")
        return "Alice"
