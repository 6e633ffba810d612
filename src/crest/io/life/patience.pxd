# What one connection waits for; see patience.pyx.

from libc.stdint cimport uint32_t

from crest.io.life.closing cimport Closing
from crest.io.life.heartbeat cimport Pulse, Terms

cdef enum:
    OPENING_LINGER = 5      # seconds in which a plain HTTP client takes some of a last response, or closes


cdef class Patience(Closing):
    cdef Pulse pulse            # written at each read, too: that is Protocol's main path

    cdef Terms terms(self) noexcept
    cdef int beat(self) except -1
    cdef int ask(self, uint32_t now) except -1
    cdef int await_next(self, uint32_t now) except -1
    cdef bint takes_output(self) except -1
    cdef bint must_wait(self) except -1
