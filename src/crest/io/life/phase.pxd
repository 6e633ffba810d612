# The phases of one connection; see phase.pyx.

from libc.stdint cimport uint8_t

# In the order in which a connection takes them; a comparison says whether bytes are still read.
cpdef enum Phase:
    OPENING     # HTTP requests are read
    OPEN        # it is a WebSocket
    CLOSING     # a close frame was sent, the peer's is awaited: frames are read on
    LOST        # the transport is gone; what came before that is still being read
    LINGERING   # nothing is read any more: what was sent leaves, and the end of the TCP connection is awaited
    GONE        # the transport is gone, and nothing is read any more

cpdef enum Step:
    UPGRADED        # the opening handshake was accepted
    CLOSE_SENT      # this side has sent the first close frame
    ENDED           # on_close was delivered, or the last HTTP response was sent
    TRANSPORT_LOST  # the transport's connection_lost was called

cpdef uint8_t after(uint8_t phase, uint8_t step) noexcept


cdef inline bint is_read(uint8_t phase) noexcept:
    """True if frames are read, as far as they have come."""
    return phase < LINGERING


cdef inline bint is_lost(uint8_t phase) noexcept:
    """True if the transport is gone."""
    return phase == LOST or phase == GONE
