# The rates that one client is held to; see pace.pyx.

from crest.io.life.reading cimport Reading
from crest.wire.meter cimport is_used_up
from crest.wire.rfc6455 cimport OPCODE_CONTINUATION


cdef class Pace(Reading):
    cdef bint must_wait(self) except -1
    cdef int count_overhead(self, size_t size) except -1
    cdef int count_pong(self) except -1


cdef inline bint is_over_rate(Pace peer) except -1:
    """True if the client is over its rate, and is not read until it may send more."""
    return peer.reader.meter is not None \
        and is_used_up(peer.reader.meter, peer.reader.message_opcode != OPCODE_CONTINUATION) and peer.must_wait()
