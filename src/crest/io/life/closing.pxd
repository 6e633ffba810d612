# The end of one connection; see closing.pyx.

from libc.stdint cimport uint8_t

from crest.io.life.heartbeat cimport Heartbeat


cdef class Closing(Heartbeat):
    cdef readonly object transport      # None before and after the connection
    cdef object site
    cdef bytes unread                   # holds the reader's chunk while reading is paused
    cdef uint8_t paused                 # the transport does not read; see reading.pyx
    cdef uint8_t close_sent
    cdef uint8_t ended                  # on_close is on its way: bytes that still come are thrown away
    cdef uint8_t at_end                 # the peer has closed its half
    cdef uint8_t lost                   # the transport is gone

    cdef int unpause(self) except -1
    cdef bint is_closing(self) except -1
    cdef bint start_closing(self, int code, str reason) except -1
    cdef int send_close(self, int code, str reason) except -1
    cdef int peer_closed(self, int code, str reason) except -1
    cdef int fail_soon(self, int code, str error) except -1
    cdef int finish(self, int code, str reason) except -1
    cdef int linger(self) except -1

    cpdef bint is_taking(self) except -1
    cpdef set_deadline(self, double seconds)
    cpdef clear_deadline(self)
