# One TCP connection; see stream.pyx.

from libc.stdint cimport uint8_t, uint16_t, uint32_t

from crest.io.life.protocol cimport Protocol
from crest.io.loop.poller cimport Pollable, Poller
from crest.io.syscalls cimport crest_address, crest_piece

cdef class StreamTransport(Pollable):
    cdef Poller poller
    cdef Protocol protocol          # None: connection_lost has been called
    cdef object context             # of the connection's handlers
    cdef bytearray pending          # bytes that were written, and that the kernel has not taken; None: there are none
    cdef uint32_t high              # bytes of `pending` above which the protocol is to pause writing
    cdef crest_address peer
    # Flags are bytes: this is part of the size of an idle connection.
    cdef uint8_t paused             # the protocol has paused reading: PAUSED or FINISHED
    cdef uint8_t at_end             # the peer has closed its half
    cdef uint8_t writing_paused
    cdef uint8_t eof_due            # the writing half is to be shut down, behind what is pending
    cdef uint8_t closing            # nothing is read any more; what is pending still goes out
    cdef uint8_t units              # sent since a segment ended; see syscalls.h
    cdef uint8_t ended              # nothing is read or written any more; connection_lost is on its way

    cdef int call(self, int events) except -1
    cdef int watch(self) except -1
    cdef int read(self) except -1
    cdef int ended_by_peer(self) except -1
    cdef int left_by_peer(self, bint gone) except -1
    cdef int push(self, const char* data, size_t size) except -1
    cdef int push_pieces(self, const crest_piece* pieces, size_t count) except -1
    cdef bint ends_segment(self, size_t size) noexcept
    cdef int queue(self, const char* data, size_t size) except -1
    cdef int write_pending(self) except -1
    cdef int pace(self) except -1
    cdef int all_sent(self) except -1
    cdef int fail(self, object error) except -1
    cdef int end(self) except -1
    cdef int lose_soon(self) except -1
    cdef int lost(self, Protocol protocol) except -1
    cdef int cease(self) except -1
