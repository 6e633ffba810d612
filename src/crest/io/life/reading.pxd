# Reading of one connection, and its pauses; see reading.pyx.

from crest.io.life.closing cimport Closing
from crest.io.loop.poller cimport Pollable, Poller
from crest.wire.frames cimport FrameReader


cdef class Reading(Closing):
    cdef readonly object opening        # reads the opening handshake; None once it is over
    cdef FrameReader reader

    cdef int hold(self) except -1
    cdef int excuse(self) except -1
    cpdef pause_reading(self)
    cpdef resume_reading(self)
    cdef bint left_by_peer(self, bint gone) except -1
    cdef int begin_vigil(self) except -1
    cdef int end_vigil(self) except -1


cdef class Vigil(Pollable):
    cdef Poller poller
    cdef Reading reading
    cdef int end(self) except -1
