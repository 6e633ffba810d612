"""A server that records what its handlers were called for, and what its peer gets up to the end."""

import asyncio
from typing import Any

from crest import WebSocketServer
from support.client import GUARD, Client
from support.events import Events


class Record:
    """A server that records what its handlers were called for."""

    def __init__(self, **options: Any) -> None:
        self.ws = WebSocketServer(**{"max_message_size": 10_000, "max_fragments": 50, **options})
        self.events = Events()
        self.ws.on_message(lambda conn, message: self.events.add("message", message))
        self.ws.on_binary(lambda conn, data: self.events.add("message", data))
        self.ws.on_error(lambda conn, error: self.events.add("error", str(error)))
        self.ws.on_close(lambda conn, code, reason: self.events.add("close", code))

    def without_messages(self) -> list[Any]:
        return [event for event in self.events.seen if event[0] != "message"]


async def rest(client: Client) -> bytes:
    """What comes up to the end of the stream; a reset is none."""
    async with asyncio.timeout(GUARD):
        return await client.reader.read()
