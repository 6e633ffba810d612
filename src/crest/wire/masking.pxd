# Frames as a client sends them; see masking.pyx.

from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy

from crest.wire.frames cimport write_header

cdef enum:
    KEY_SIZE = 4


cdef class Masker:
    cdef object entropy         # a callable: so many bytes of the system's entropy
    cdef bytes batch            # keys, those used up included
    cdef size_t at              # where in `batch` the next key is

    cdef int next_key(self, uint8_t* key) except -1
    cdef bytes frame(self, uint8_t opcode, const uint8_t* payload, size_t size)


cdef inline size_t write_masked_header(uint8_t* out, uint8_t opcode, uint64_t size, const uint8_t* key) noexcept nogil:
    """Write the header of a final frame that is masked with `key`; returns its bytes, MAX_CLIENT_HEADER at most.
    `opcode` may have RSV1."""
    cdef size_t n = write_header(out, opcode, size)
    out[1] |= 0x80
    memcpy(out + n, key, KEY_SIZE)
    return n + KEY_SIZE
