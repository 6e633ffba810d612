"""Which rooms of a server have members in this process, and which: the seam for what brings messages from elsewhere."""

from libc.stdint cimport uint64_t


cdef class Interest:
    """Is told when the first member enters a room of a server, and when the last one leaves.

    A room counts once, whether its members compress or not. `of_user` tells a user's room from a room of that name.
    """

    cpdef began(self, str name, bint of_user):
        """Note that a room is about to have its first member. If this raises, the member does not enter."""

    cpdef ended(self, str name, bint of_user):
        """Note that a room has no members any more. If this raises, it is `missed`."""

    cpdef entered(self, str name, bint of_user, uint64_t number):
        """Note that a connection is in a room now, by its number. If this raises, it is `missed`."""

    cpdef exited(self, str name, bint of_user, uint64_t number):
        """Note that a connection is not in a room any more. If this raises, it is `missed`."""
