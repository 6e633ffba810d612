from collections.abc import Hashable, Iterable
from typing import TypeVar

from typing_extensions import Buffer, disjoint_base

from crest.io.out.address import UserRoom
from crest.io.out.hub import Hub
from crest.io.out.outbox import Outbox

_Class = TypeVar("_Class", bound=type[Outbox])

def with_own_methods(cls: _Class) -> _Class: ...

@disjoint_base
class Broadcaster:
    """Broadcasts by a hub."""

    _hub: Hub
    def broadcast(
        self,
        text: str,
        *,
        to: str | UserRoom | Iterable[str | UserRoom] | None = None,
        exclude: Outbox | Iterable[Outbox] | None = None,
        key: Hashable = None,
        compress: bool = True,
        local: bool = False,
    ) -> None:
        """Send one text message to every open connection of this server, or to those in rooms. Never blocks; may be
        called from any thread.

        Args:
            text: The message.
            to: The room that it is for, or several: names, or what `user` returns. A connection that is in several of
                them gets it once. None: it is for every connection. A room that has no members is no error.
            exclude: A connection that does not get it, or several.
            key: What it is the newest state of: with `on_backlog="latest"` it takes the place of an older one with the
                same key in the same room, for clients that do not keep up. None: it is no state, and nothing takes its
                place.
            compress: False sends it as it is, to connections that compress too.
            local: True: only connections of this process get it, as they get it from each other process by itself.

        Raises:
            TypeError: `text` is not `str`; bytes go through `broadcast_binary`. Or `key` is not hashable, or `to` or
                `exclude` is something else.
            ValueError: A room's name is empty, or has a lone surrogate, which UTF-8 can not carry. UnicodeEncodeError:
                `text` has one.
        """
    def broadcast_binary(
        self,
        data: Buffer,
        *,
        to: str | UserRoom | Iterable[str | UserRoom] | None = None,
        exclude: Outbox | Iterable[Outbox] | None = None,
        key: Hashable = None,
        compress: bool = True,
        local: bool = False,
    ) -> None:
        """Send one binary message to every open connection of this server, or to those in rooms. Never blocks; may be
        called from any thread.

        Args:
            data: Any bytes-like object; a mutable one may be changed as soon as the call returns.
            to, exclude, key, compress, local: See `broadcast`.

        Raises:
            TypeError: `data` is not bytes-like; text goes through `broadcast`. Or see `broadcast`.
            ValueError: See `broadcast`.
        """
