from collections.abc import Hashable
from typing import TypeVar

from typing_extensions import Buffer, disjoint_base

from crest.io.out.hub import Hub
from crest.io.out.outbox import Outbox

_Class = TypeVar("_Class", bound=type[Outbox])

def with_own_methods(cls: _Class) -> _Class: ...

@disjoint_base
class Broadcaster:
    """Broadcasts by a hub."""

    _hub: Hub
    def broadcast(self, text: str, *, key: Hashable = None, compress: bool = True) -> None:
        """Send one text message to every open connection of this server. Never blocks; may be called from any thread.

        Args:
            text: The message.
            key: What it is the newest state of: with `on_backlog="latest"` it takes the place of an older one with the
                same key, for clients that do not keep up. None: it is no state, and nothing takes its place.
            compress: False sends it as it is, to connections that compress too.

        Raises:
            TypeError: `text` is not `str`; bytes go through `broadcast_binary`. Or `key` is not hashable.
            UnicodeEncodeError: It has a lone surrogate, which UTF-8 can not carry.
        """
    def broadcast_binary(self, data: Buffer, *, key: Hashable = None, compress: bool = True) -> None:
        """Send one binary message to every open connection of this server. Never blocks; may be called from any thread.

        Args:
            data: Any bytes-like object; a mutable one may be changed as soon as the call returns.
            key, compress: See `broadcast`.

        Raises:
            TypeError: `data` is not bytes-like; text goes through `broadcast`. Or `key` is not hashable.
        """
