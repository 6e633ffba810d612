# The shared part of permessage-deflate's codec; see deflate.pyx. It hides zlib: to cimport this takes no zlib.h.

from libc.stdint cimport UINT64_MAX, uint8_t, uint16_t, uint64_t

from crest.wire.assembler cimport Assembler

cdef enum:
    INFLATING = 40056           # bytes of an inflating stream with the widest window, see docs/compression.md


cdef class Codec:
    cdef readonly int level, memory_level
    cdef void* thread           # of the loop that it belongs to, as CPython knows it
    cdef dict deflaters         # those that are shared, by window bits
    cdef list idle              # inflating streams that no message is using
    cdef uint8_t* unmasked      # UNMASKED bytes to work in

    cdef Deflater shared_deflater(self, int window_bits)
    cdef object borrow(self)
    cdef void give_back(self, object stream) noexcept


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
    cdef uint64_t taken         # bytes of compressed payload, of this message's frames so far
    cdef readonly bint takeover
    cdef readonly uint8_t window_bits
    cdef uint8_t at_boundary    # the payload so far ends with a block, on a byte
    # Why it failed.
    cdef readonly uint16_t close_code
    cdef readonly str error

    cdef void begin(self) noexcept
    cdef bint feed(
        self, Assembler message, const uint8_t* source, size_t size, const uint8_t* key, size_t offset, bint last,
    ) except -1
    cdef void end(self) noexcept

    cdef bint inflate(self, Assembler message, const uint8_t* data, size_t size) except -1
    cdef str fault_of(self, Assembler message, str found)
    cdef bint finish(self, Assembler message) except -1
    cdef bint take(self, Assembler message, size_t size) except -1
    cdef bint fail(self, int close_code, str error) except -1


cdef inline uint64_t most_compressed(uint64_t size, uint64_t fragments) noexcept nogil:
    """Return the most bytes that an honest client makes of a message of `size` bytes in so many frames.

    The worst code has nine bits for a byte (RFC 1951 section 3.2.6); stored blocks of forty bytes are no longer. Each
    frame may end with a flush, ten bytes behind stored ones."""
    if size >> 62:
        return UINT64_MAX
    return size + (size >> 3) + (size >> 8) + 64 + 16 * fragments
