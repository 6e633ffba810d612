# One end of a connection between two processes; see link.pyx.

from crest.cluster.outgoing cimport Outgoing
from crest.io.loop.poller cimport Pollable, Poller
from crest.io.loop.turn cimport Block


cdef class Owner:
    cdef size_t received(self, Link link, Block block, const char* data, size_t size) except? 0
    cdef int lost(self, Link link, object reason) except -1


cdef class Link(Outgoing):
    cdef Poller poller
    cdef Owner owner
    cdef End end                # None: it is not connected
    cdef Block block            # that is received into; None: nothing has come yet
    cdef size_t start           # where in it the first record begins that is not whole yet

    cdef int attach(self, Poller poller, int fd, Owner owner) except -1
    cdef int close(self) noexcept
    cdef int lose(self, object reason) except -1
    cdef int ready(self, int events) except -1
    cdef int receive_rest(self) except -1
    cdef bint receive(self) except -1
    cdef Block room_to_read(self)
    cdef int send(self) except -1


cdef class End(Pollable):
    cdef Link link              # None: it has ended
