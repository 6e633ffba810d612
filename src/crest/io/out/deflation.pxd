# Compression of what a server's connections send; see deflation.pyx.

from libc.stdint cimport uint64_t

from crest.wire.deflate cimport Codec, Deflater


cdef class Compression:
    cdef Codec codec
    cdef uint64_t threshold     # bytes; a shorter message is sent as it is
    cdef int window_bits        # that every connection can read
    cdef uint64_t broadcasts    # that were compressed
    cdef dict stateless         # Deflation, by what was agreed: those without context takeover

    cdef Deflation open(self, object agreed, bint alone)
    cdef bytes compress_for_all(self, const char* data, size_t size)


cdef class Deflation:
    cdef readonly str agreed
    cdef uint64_t threshold
    cdef Deflater deflater
    # With context takeover only: broadcasts use the client's window in between.
    cdef Compression shared     # compresses them
    cdef uint64_t broadcasts    # that there had been when this one compressed last

    cdef bytes compress(self, const char* data, size_t size)
    cdef bytes compress_alone(self, const char* data, size_t size)
    cdef void forget(self) noexcept
    cdef void end(self) noexcept
