from collections.abc import Iterable
from typing import final

@final
class UserRoom:
    """All connections of one user of a server, as `to` of a broadcast takes it. `WebSocketServer.user` makes it.

    Attributes:
        name: The user's.
    """
    def __new__(cls, name: str, /) -> UserRoom: ...
    @property
    def name(self) -> str: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

def rooms_in(to: str | UserRoom | Iterable[str | UserRoom] | None) -> tuple[str | UserRoom, ...] | None: ...
