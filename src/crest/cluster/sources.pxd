# How far the messages of others have come; see sources.pyx.

from libc.stdint cimport uint32_t, uint64_t

from crest.cluster.record cimport Beginning, Header


cdef class Source:
    cdef uint32_t number
    cdef Beginning last
    cdef bint begun             # a START has come


cdef class Sources:
    cdef dict known             # Source, by number
    cdef Source latest          # of the last record; None: none has come
    cdef uint64_t explained     # messages to all that a GAP has counted, and that no sequence has left out yet

    cdef Source find(self, uint32_t number)
    cdef Source meet(self, uint32_t number)
    cdef uint64_t message(self, const Header* header) except? 0
    cdef uint64_t begin(self, uint32_t number, const Beginning* beginning, bint* uncertain) except? 0
    cdef uint64_t unexplained(self, uint64_t missing) noexcept
