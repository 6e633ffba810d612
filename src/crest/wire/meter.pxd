# How much a client may still send; see meter.pyx.

from libc.stdint cimport uint8_t, uint32_t, uint64_t


cdef class Rates:
    # Of each limit: tokens a millisecond, and how many there may be; 0 and infinitely many where there is none.
    cdef double messages, messages_at_once, bytes, bytes_at_once
    cdef readonly object max_message_rate, max_byte_rate
    cdef readonly bint count_inflated


cdef class Meter:
    cdef Rates rates
    cdef double messages, bytes     # tokens
    cdef uint32_t since             # when they were counted, in milliseconds modulo 2**32
    cdef uint8_t out_of_messages    # those were what the last refusal was for

    cpdef void refill(self, uint32_t now) noexcept
    cpdef void excuse(self, uint32_t now) noexcept
    cdef bint takes_frame(self, uint8_t opcode, bint fin, uint64_t size) noexcept
    cdef bint takes_payload(self, uint8_t opcode, uint64_t size) noexcept
    cdef bint takes_inflated(self, uint64_t size) noexcept
    cdef str excess(self)


cdef inline bint takes(Meter meter, double messages, double bytes) noexcept:
    """Whether there are tokens for so much; then they are taken."""
    if meter.messages < messages or meter.bytes < bytes:
        meter.out_of_messages = meter.messages < messages
        return False
    meter.messages -= messages
    meter.bytes -= bytes
    return True


cdef inline uint32_t head_size(uint64_t payload) noexcept:
    """Bytes of a client's frame header in its shortest encoding, with the masking key (RFC 6455 section 5.2)."""
    return 6 if payload < 126 else 8 if payload < 0x10000 else 14


cdef inline bint takes_message(Meter meter, uint64_t size) noexcept:
    """The same for a message of one frame."""
    return takes(meter, 1, head_size(size) + size)
