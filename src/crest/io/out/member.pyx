"""The rooms of one connection: what an `Outbox` gets beside what is for it alone, and for all.

Like all calls that change what is sent, these wait for the loop if they come from another thread.
"""

from crest.io.loop.turn cimport must_wait
from crest.io.out.address cimport UserRoom, room_name
from crest.io.out.backlog cimport ACCEPTING, UNATTACHED
from crest.io.out.circle cimport Circle, Memberships, awaiting, memberships_of
from crest.io.out.outbox cimport Outbox


cdef class Member(Outbox):
    """The sending side of one connection, with its rooms."""

    def join(self, room, /):
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
        cdef str name = room_name("join", room)
        if self.state != ACCEPTING:
            return False
        if must_wait(self.feed.turn):
            return self.feed.turn.call_later(self._enter_posted, name)
        self.feed.enter(self, name)
        return True

    def leave(self, room, /):
        """Have this connection not be in a room; no-op if it is not. What was broadcast before it still gets. May be
        called from any thread.

        Args:
            room: See `join`.

        Raises:
            See `join`.
        """
        cdef str name = room_name("leave", room)
        if self.state == ACCEPTING:
            if must_wait(self.feed.turn):
                self.feed.turn.call_later(self._exit_posted, name)
            else:
                self.feed.exit(self, name)

    @property
    def rooms(self):
        """Return the names of the rooms that this connection is in, in a new frozenset; once it is closing, of those
        that it was in."""
        cdef Memberships memberships = memberships_of(self)
        return frozenset() if memberships is None else memberships.names()

    @property
    def _user_key(self):
        """Return the name under which a user that is no `str` has its own; None: under none, or it is not known yet."""
        return None if self.feed is None else self.feed.user_key

    def _be_user(self, name):
        """Have this connection be in a user's room, and in no other user's; before it opens, from then on. None: in no
        user's room."""
        cdef UserRoom room = None if name is None else UserRoom(name)
        if self.state == UNATTACHED:
            self._follower = None if room is None else awaiting(room)
        elif self.state == ACCEPTING:
            if must_wait(self.feed.turn):
                self.feed.turn.call_later(self._be_user_posted, room)
            else:
                self._be_user_posted(room)

    def _enter_posted(self, address):
        if self.state == ACCEPTING:
            self.feed.enter(self, address)

    def _exit_posted(self, address):
        if self.state == ACCEPTING:
            self.feed.exit(self, address)

    def _be_user_posted(self, UserRoom room):
        cdef Memberships memberships = memberships_of(self)
        cdef Circle old = None if memberships is None else memberships.of_user()
        if self.state != ACCEPTING or (old is not None and room is not None and old.name == room.name):
            return
        if room is not None:
            self.feed.enter(self, room)
        if old is not None and self.state == ACCEPTING:
            self.feed.exit(self, UserRoom(old.name))
