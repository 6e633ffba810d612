from crest.io.out.outbox import Outbox

class Member(Outbox):
    """The sending side of one connection, with its rooms."""
    def join(self, room: str, /) -> bool:
        """Have this connection be in a room: it gets what is broadcast to that from now on. May be called from any
        thread; the room is joined once the loop has got to the call, in the order of the thread's calls.

        A room begins with its first member and ends with its last. A connection that closes leaves its rooms.

        Args:
            room: Its name: any `str` that is not empty. Names that clients choose are for the application to bound.

        Returns:
            True, also if the connection is in the room already; False when it is not open any more.

        Raises:
            TypeError: `room` is not `str`.
            ValueError: It is empty, or has a lone surrogate, which UTF-8 can not carry.
        """
    def leave(self, room: str, /) -> None:
        """Have this connection not be in a room; no-op if it is not. What was broadcast before it still gets. May be
        called from any thread.

        Args:
            room: See `join`.

        Raises:
            See `join`.
        """
    @property
    def rooms(self) -> frozenset[str]:
        """Return the names of the rooms that this connection is in, in a new frozenset; once it is closing, of those
        that it was in."""
    @property
    def _user_key(self) -> str | None: ...
    def _be_user(self, name: str | None) -> None: ...
