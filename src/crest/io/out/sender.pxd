# The way out of one connection's queue; see sender.pyx.

from libc.stdint cimport uint8_t, uint32_t

from crest.io.out.backlog cimport Backlog
from crest.io.out.deflation cimport Deflation

cdef class Sender(Backlog):
    cdef object transport
    cdef Deflation deflation                # None: nothing is compressed

    cdef size_t refill(self) except? 0
    cdef int flush_pieces(self, ptrdiff_t sent) except -1
    cdef int hand_over(self) except -1
    cdef int put_off(self) except -1
    cdef int pause(self) except -1
    cdef int resume(self) except -1
    cdef int broken(self) except -1
    cdef int limit_transport(self) except -1
