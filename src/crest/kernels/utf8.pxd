# utf8.h for Cython. A module that cimports crest_utf8_validate or crest_utf8_feed compiles a copy, and must call
# crest_utf8_init at its own import.

from libc.stdint cimport uint8_t

cdef extern from "utf8.h" nogil:
    ctypedef struct crest_utf8:
        uint8_t missing
        uint8_t seen

    ctypedef bint (*crest_utf8_function)(const uint8_t* data, size_t size) noexcept

    ctypedef struct crest_utf8_variant:
        const char* name
        crest_utf8_function call

    enum:
        CREST_UTF8_VARIANTS

    bint crest_utf8_is_ascii(const uint8_t* data, size_t size) noexcept
    bint crest_utf8_validate(const uint8_t* data, size_t size) noexcept
    size_t crest_utf8_valid_prefix(const uint8_t* data, size_t size) noexcept

    void crest_utf8_start(crest_utf8* state) noexcept
    bint crest_utf8_feed(crest_utf8* state, const uint8_t* data, size_t size) noexcept
    bint crest_utf8_feed_with(
        crest_utf8_function validate, crest_utf8* state, const uint8_t* data, size_t size) noexcept
    bint crest_utf8_finish(const crest_utf8* state) noexcept
    ptrdiff_t crest_utf8_fault_offset(const crest_utf8* state, const uint8_t* data, size_t size) noexcept

    size_t crest_utf8_variants(crest_utf8_variant* found) noexcept
    void crest_utf8_init() noexcept
