# The way out of one connection's queue; see sender.pyx.

from libc.stdint cimport uint8_t, uint32_t

from crest.io.out.backlog cimport Backlog
from crest.io.out.deflation cimport Deflation

cdef class Sender(Backlog):
    cdef object transport
    cdef Deflation deflation                # None: nothing is compressed
    cdef uint8_t limited                    # the transport's buffer limits are set
    cdef uint8_t layered                    # the transport is the loop's of TLS: another one is below it
    cdef uint8_t tell_drained               # owner.drained() is owed
    cdef uint8_t torn                       # bytes have left the queue, and may not have reached the transport
    cdef readonly uint32_t discarded        # messages of the peer over its rate; here, as an outbox outlives its reader

    cdef size_t refill(self) except? 0
    cdef int flush_pieces(self, ptrdiff_t sent) except -1
    cdef int hand_over(self) except -1
    cdef int put_off(self) except -1
    cdef int pause(self) except -1
    cdef int resume(self) except -1
    cdef int broken(self) except -1
    cdef int limit_transport(self) except -1
