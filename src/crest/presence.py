"""The members of rooms, of all processes that serve one app."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from typing import Protocol as Interface

if TYPE_CHECKING:
    from crest.io.out.address import UserRoom


class Presence(NamedTuple):
    """One connection that is in a room, in this process or another one.

    Attributes:
        id: The connection's, see `WebSocketConnection.get_id`; `WebSocketServer.send_to` takes it.
        user: The name of its user, see `WebSocketServer.user`; None: it has none.
    """

    id: str
    user: str | None


class Elsewhere(Interface):
    """What a server knows of its connections in other processes."""

    async def members(self, rooms: tuple[str | UserRoom, ...]) -> list[Presence]:
        """List the connections that are in any of these rooms, each once."""

    async def count(self, rooms: tuple[str | UserRoom, ...]) -> int:
        """Count those."""
