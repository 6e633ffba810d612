# Signs of life of one connection; see heartbeat.pyx.

from libc.stdint cimport uint32_t

from crest.io.life.inbox cimport Inbox


cdef class Heartbeat(Inbox):
    # Milliseconds by the loop's clock, modulo 2**32.
    cdef uint32_t heard             # when bytes came last, or there was another sign of life
    cdef uint32_t spoke             # when a message came last; for plain HTTP see Closing.is_taking
    cdef uint32_t asked             # when the last ping was sent, if nothing has come since; else 0
    cdef uint32_t acknowledged      # bytes, by its kernel, at the last look; plus bytes received if it is not read

    cdef int begin(self) except -1
    cdef int beat(self) except -1
    cdef int await_next(self, uint32_t now) except -1
    cdef bint answered(self, bytes payload) except -1
    cdef int ask(self, uint32_t now) except -1
    cdef bint has_input(self) except -1
    cdef bint is_alive(self) except -1
    cdef bint takes_output(self) except -1
    cdef bint is_silent(self) except -1
    cdef bint is_reading(self) except -1


cdef int descriptor_of(object transport) except? -1


cdef inline void hear(Heartbeat peer, uint32_t now) noexcept:
    """Note a sign of life."""
    peer.heard = now
    peer.asked = 0
