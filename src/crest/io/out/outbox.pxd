# The sending side of one connection; see outbox.pyx.

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from crest.io.out.backlog cimport Feed, Owner
from crest.io.out.sender cimport Sender

cdef class Outbox(Sender):
    cdef uint32_t ping_serial
    cdef float pong_delay                   # seconds from the last answered ping to its pong; negative: none was yet
    cdef uint32_t pinged                    # microseconds modulo 2**32: when the last ping was sent; 0: none is awaited
    cdef readonly uint32_t discarded        # messages of the peer over its rate; here, as an outbox outlives its reader
    cdef readonly uint64_t _number          # unique in this process
    cdef size_t posted                      # bytes of calls that wait: from other threads, or from within sections

    cdef int collectable(self) except -1
    cdef int attach(self, Owner owner, Feed feed, object transport, bytes response) except -1
    cdef int detach(self) except -1
    cdef bint push_message(
        self, uint8_t opcode, const char* data, size_t size, object owner, bint compress) except -1
    cdef bint push_keyed(self, uint8_t opcode, const char* data, size_t size, object owner, bint compress,
                         object key) except -1
    cdef bint keep(self, uint8_t opcode, const char* data, size_t size, bint compress, object key) except -1
    cdef bint push_now(self, uint8_t opcode, const char* data, size_t size, object owner, bint compress) except -1
    cdef bint push_compressed(self, uint8_t opcode, const char* data, size_t size, object owner) except -1
    cdef bint push_counted(self, uint8_t opcode, const char* data, size_t size, object owner) except -1
    cdef bint extend(self, uint8_t opcode, const char* data, size_t size) noexcept
    cdef bint push_frame(self, uint8_t opcode, const char* data, size_t size, object owner) except -1
    cdef int push_close(self, int code, bytes reason) except -1
    cdef bint push_ping(self) except -1
    cdef bint pong(self, bytes payload) except -1

    cdef bint post(self, uint8_t opcode, size_t size, object owner, bint compress, object key) except -1
    cdef int append(self, const char* header, size_t header_size, const char* data, size_t size) except -1


cdef inline bint is_ready(Outbox outbox) noexcept nogil:
    """True if bytes may go straight to the socket: there is one, and nothing waits that must go before."""
    return outbox.count == 0 and not outbox.blocked and outbox.fd >= 0
