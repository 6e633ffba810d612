# What the parts of a connection ask of it; see host.pyx.

from libc.stdint cimport uint64_t

from crest.io.loop.turn cimport Turn
from crest.io.out.backlog cimport Owner
from crest.io.out.hub cimport Hub
from crest.io.out.outbox cimport Outbox


cdef class Host(Owner):
    cdef readonly Turn turn
    cdef Hub hub                        # None before the upgrade, as is `connection`
    cdef readonly Outbox connection

    cdef uint64_t max_backlog(self, uint64_t usual) noexcept
    cdef int give_up(self, str reason) except -1
    cdef int has_room(self) except -1
    cdef int handled(self) except -1
    cdef bint farewell(self) except -1
    cdef bint left_by_peer(self, bint gone) except -1
