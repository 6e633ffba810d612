# How much a client may still send; see meter.pyx.

from libc.stdint cimport uint8_t, uint32_t, uint64_t


# What happens to a message, or other traffic, that comes over a rate.
cdef enum Excess:
    FAIL_CONNECTION
    DROP            # the message is discarded, whole
    WAIT            # it may come, and nothing more until that is made up for


cdef class Rates:
    # Of each limit: tokens a millisecond, and how many there may be; 0 and infinitely many where there is none.
    cdef double messages, messages_at_once, bytes, bytes_at_once
    cdef readonly object max_message_rate, max_byte_rate
    cdef readonly bint count_inflated
    cdef uint8_t excess             # an Excess


cdef class Meter:
    cdef Rates rates
    cdef double messages, bytes     # tokens
    cdef uint32_t since             # when they were counted, in milliseconds modulo 2**32
    cdef uint8_t out_of_messages    # the last refusal was for want of messages' tokens
    cdef uint8_t excess             # an Excess: that of the rates, at first
    cdef uint8_t dropping           # the message that comes is over the rate: nothing of it counts any more

    cpdef void refill(self, uint32_t now) noexcept
    cpdef void excuse(self, uint32_t now) noexcept
    cdef bint takes_frame(self, uint8_t opcode, bint fin, uint64_t size) noexcept
    cdef bint takes_payload(self, uint8_t opcode, uint64_t size) noexcept
    cdef bint takes_inflated(self, uint64_t size) noexcept
    cdef bint takes_control(self, double messages, double bytes) noexcept
    cdef bint overdraws(self, double messages, double bytes) noexcept
    cdef double delay(self, bint within) noexcept
    cdef str told(self)


cdef inline bint takes(Meter meter, double messages, double bytes) noexcept:
    """True if there are tokens for so much, or they may be owed; then they are taken."""
    if meter.messages < messages or meter.bytes < bytes:
        return meter.overdraws(messages, bytes)
    meter.messages -= messages
    meter.bytes -= bytes
    return True


cdef inline bint is_used_up(Meter meter, bint within) noexcept:
    """True if the next bytes must wait for tokens. `within` a message they need no token of messages."""
    return meter.excess == WAIT and ((meter.messages < 1 and not within) or meter.bytes <= 0)


cdef inline uint32_t head_size(uint64_t payload) noexcept:
    """Count the bytes of a client's frame header, shortest encoding, with its masking key (RFC 6455 section 5.2)."""
    return 6 if payload < 126 else 8 if payload < 0x10000 else 14


cdef inline bint takes_message(Meter meter, uint64_t size) noexcept:
    """True if a message of one frame may come, of `size` payload bytes; then its tokens are taken."""
    return takes(meter, 1, head_size(size) + size)
