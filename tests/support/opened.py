"""Asks a connection that has just opened."""

from collections.abc import Callable
from typing import Any

from crest import App, WebSocketConnection, WebSocketServer
from support.client import connect
from support.events import Events


async def asked(function: Callable[[WebSocketConnection], Any], **options: Any) -> Any:
    """What the function returns for a connection that has just opened."""
    ws, events = WebSocketServer(), Events()
    ws.on_connect(lambda conn: events.add([function(conn)]))
    async with App().listening() as server, connect(server, **options):
        ((answer,),) = await events.reach(1)
        return answer
