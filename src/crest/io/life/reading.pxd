# Reading of one connection, and its pauses; see reading.pyx.

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from crest.io.life.host cimport Host
from crest.io.life.inbox cimport Inbox
from crest.io.loop.poller cimport Pollable, Poller
from crest.wire.frames cimport FrameReader


cdef class Reading(Host):
    cdef readonly object transport      # None before and after the connection
    cdef readonly object opening        # reads the opening handshake; None once it is over
    cdef FrameReader reader             # None before the upgrade
    cdef bytes unread                   # holds the reader's chunk while reading is paused
    cdef Inbox inbox                    # None: nothing that has come waits
    cdef readonly uint32_t slot         # in a Roster, which sets it
    # Flags are bytes, and stand together: this is part of the size of an idle connection.
    cdef uint8_t phase                  # a Phase; changed by `step` alone
    cdef uint8_t paused                 # the transport does not read, because of what has come
    cdef uint8_t at_end                 # the peer has closed its half
    cdef uint8_t deaf                   # messages are not handled any more: the application has called close()

    cdef int step(self, uint8_t step) noexcept
    cdef int keep(self, int kind, uint64_t size) except -1
    cdef bint is_closing(self) except -1
    cdef int hold(self) except -1
    cdef bint unpause(self) except -1
    cdef int excuse(self) except -1
    cpdef pause_reading(self)
    cpdef resume_reading(self)
    cdef int begin_vigil(self) except -1
    cdef int end_vigil(self) except -1


cdef class Vigil(Pollable):
    cdef Poller poller
    cdef Host host
    cdef int end(self) except -1
