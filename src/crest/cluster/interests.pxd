# What the exchange is told of rooms; see interests.pyx.

from libc.stdint cimport uint32_t

from crest.cluster.link cimport Link
from crest.io.loop.clock cimport Clock, Deadline
from crest.io.out.interest cimport Interest


cdef class Interests(Deadline):
    cdef Clock clock
    cdef Link link
    cdef uint32_t number
    cdef dict leaving           # when each room is to be left, by (server, name, True for a user's)
    cdef bint runs              # the deadline does

    cdef int begin(self) except -1


cdef class Rooms(Interest):
    cdef Interests interests
    cdef uint32_t server
    cdef object watcher         # is told of members; None: nothing is
