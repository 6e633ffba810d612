# What is shared of permessage-deflate's codec; see deflate.pyx. It hides zlib: who cimports this needs no zlib.h.

from libc.stdint cimport uint8_t, uint64_t

from crest.wire.assembler cimport Assembler


cdef class Codec:
    cdef readonly int level, memory_level
    cdef void* thread           # of the loop that it belongs to, as CPython knows it
    cdef dict deflaters         # those that are shared, by window bits
    cdef list idle              # inflating streams that no message is using
    cdef uint8_t* unmasked      # UNMASKED bytes to work in

    cdef Deflater shared_deflater(self, int window_bits)
    cdef object borrow(self)
    cdef int give_back(self, object stream) except -1


cdef class Deflater:
    cdef void* thread
    cdef object stream          # zlib's, from the first message on
    cdef readonly int window_bits, level, memory_level
    cdef readonly bint takeover
    cdef uint8_t stale          # the next message must not refer to those before

    cdef bytes compress(self, const char* data, size_t size)
    cdef void forget(self) noexcept


cdef class Inflater:
    cdef Codec codec
    cdef object stream          # zlib's: None between messages, unless they take over their context
    cdef readonly int window_bits
    cdef readonly bint takeover
    cdef uint8_t at_boundary    # the payload so far ends with a block, on a byte
    # Why it failed.
    cdef readonly int close_code
    cdef readonly str error

    cdef void begin(self) noexcept
    cdef bint feed(
        self, Assembler message, const uint8_t* source, size_t size, const uint8_t* key, size_t offset, bint last,
    ) except -1
    cdef int end(self) except -1

    cdef bint inflate(self, Assembler message, const uint8_t* data, size_t size) except -1
    cdef bint finish(self, Assembler message) except -1
    cdef bint take(self, Assembler message, size_t size) except -1
    cdef bint fail(self, int close_code, str error) except -1
