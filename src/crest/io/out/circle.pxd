# Rooms and their members; see circle.pyx.

from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint32_t

from crest.io.out.address cimport UserRoom
from crest.io.out.backlog cimport Backlog, Follower
from crest.io.out.interest cimport Interest
from crest.io.out.outbox cimport Outbox

cdef enum Stage:
    IN              # the outbox is in these circles
    AWAITING        # it has yet to open, and enters the one that is named like this then
    OVER            # it has stopped, and was in these

# That an outbox is in a circle, as the outbox knows it.
cdef struct Membership:
    PyObject* circle            # Circle, a reference
    uint32_t slot               # in the circle


cdef class Circle:
    cdef str name
    cdef uint8_t of_user        # `name` is a user's, and no room's
    cdef uint8_t units          # sent in rounds since a segment of TCP ended; see syscalls.h
    cdef uint32_t count, room   # members, and those that there is memory for
    cdef PyObject** members     # Outbox; borrowed, as each leaves before it ends
    cdef uint32_t* places       # of each member's Membership among its own

    cdef int reserve(self) except -1
    cdef uint32_t enter(self, Outbox outbox, uint32_t place) noexcept
    cdef void vacate(self, uint32_t slot, size_t* at) noexcept
    cdef uint32_t fill(self, uint32_t free, uint32_t slot) noexcept
    cdef void shrink(self) noexcept


cdef class Memberships(Follower):
    cdef Membership* items
    cdef uint32_t count, room
    cdef uint8_t stage          # a Stage

    cdef int reserve(self) except -1
    cdef void add(self, Circle circle, uint32_t slot) noexcept
    cdef void remove(self, uint32_t place) noexcept
    cdef Py_ssize_t find(self, Outbox outbox, Circle circle) noexcept
    cdef Circle of_user(self)
    cdef frozenset names(self)


cdef class Circles:
    cdef dict rooms, users      # Circle, by name
    cdef Interest interest      # is told which rooms have members; None: nothing is
    cdef Circles other          # of the server's other fan-out; None: it has none

    cdef Circle find(self, object address)
    cdef list found(self, tuple addresses)
    cdef Circle enter(self, Outbox outbox, object address)
    cdef int open(self, Outbox outbox) except -1
    cdef int exit(self, Outbox outbox, Circle circle, size_t* at) except -1
    cdef int exit_all(self, Outbox outbox, Circle current, size_t* at) except -1
    cdef bint only_here(self, Circle circle) except -1
    cdef int vacated(self, Circle circle, Outbox outbox) except -1
    cdef void tell_entered(self, Circle circle, Outbox outbox) noexcept
    cdef void tell_exited(self, Circle circle, Outbox outbox, bint empty) noexcept
    cdef list members(self, object address)


cdef Circle new_circle(object address)
cdef Memberships awaiting(UserRoom room)
cdef Memberships memberships_of(Backlog outbox)
