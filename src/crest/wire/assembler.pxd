# The shape of the object that messages are put together in; see assembler.pyx.

from cpython.bytes cimport PyBytes_AS_STRING
from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint64_t

from crest.cpython cimport PyUnicode_DATA
from crest.kernels.utf8 cimport crest_utf8
from crest.wire.rfc6455 cimport OPCODE_TEXT

cdef class Assembler:
    cdef readonly uint64_t max_message_size     # bytes
    cdef PyObject* body                         # the final str (while ASCII) or bytes, longer than its content
    cdef uint64_t body_size, body_room
    cdef uint8_t message_opcode                 # OPCODE_CONTINUATION: no message has begun
    cdef uint8_t ascii
    cdef crest_utf8 utf8
    # Of the frame reader, which has no room for it: the mask bit that its frames must have, MASK_BIT or 0.
    cdef uint8_t mask_bit

    cdef void begin_message(self, uint8_t opcode) noexcept
    cdef int resize_body(self, uint64_t room) except -1
    cdef int resize_bytes(self, uint64_t room) except -1
    cdef bint extend_body(self, uint64_t size, bint ascii) noexcept
    cdef object whole_body(self)
    cdef void drop_body(self) noexcept


cdef inline uint8_t* body_of(Assembler message) noexcept:
    """Return the memory of the body, which resize_body has made."""
    if message.message_opcode == OPCODE_TEXT:
        return <uint8_t*>PyUnicode_DATA(<object>message.body)
    return <uint8_t*>PyBytes_AS_STRING(<object>message.body)
