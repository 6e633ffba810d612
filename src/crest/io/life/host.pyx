"""The interface by which the parts of a connection ask the connection, and tell it what has happened.

An `Owner` is what the sending side knows of it. A `Host` is what an inbox and a vigil know besides. `Protocol` is all
of that; what is not its business does nothing here.
"""

from libc.stdint cimport uint64_t

from crest.cpython cimport PyObject_GC_UnTrack


cdef class Host(Owner):
    """One connection, as its parts know it."""

    def __cinit__(self, *_):
        PyObject_GC_UnTrack(self)  # see Inbox.look_after

    cdef uint64_t max_backlog(self, uint64_t usual) noexcept:
        return usual if self.hub is None else self.hub.max_backlog

    cdef int give_up(self, str reason) except -1:
        """Forget what has come and is not handled, and end the connection: its memory is needed."""
        return 0

    cdef int has_room(self) except -1:
        """Read on: at most half of `max_queue` events wait."""
        return 0

    cdef int handled(self) except -1:
        """Hear that the last event that waited has been handled."""
        return 0

    cdef bint farewell(self) except -1:
        """True if a handler was cancelled because the server is about to end; then this closes the connection."""
        return False

    cdef bint left_by_peer(self, bint gone) except -1:
        """Deal with the end of a connection that is not read. The peer has closed its half, or both if `gone`.

        False if the peer's half does not matter now, and only a connection that is gone would."""
        return False
