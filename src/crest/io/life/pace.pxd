# The rates that one client is held to; see pace.pyx.

from libc.stdint cimport uint32_t

from crest.wire.frames cimport FrameReader
from crest.wire.meter cimport is_used_up
from crest.wire.rfc6455 cimport OPCODE_CONTINUATION

cdef double wait_for_tokens(FrameReader reader, uint32_t now, bint paused) except -1


cdef inline bint is_over_rate(FrameReader reader) noexcept:
    """True if the client has used up its tokens, as far as was counted."""
    return reader.meter is not None and is_used_up(reader.meter, reader.message_opcode != OPCODE_CONTINUATION)
