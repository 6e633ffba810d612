# mask.h for Cython. A module that cimports crest_unmask compiles a copy, and must call crest_mask_init at its import.

from libc.stdint cimport uint8_t

cdef extern from "mask.h" nogil:
    ctypedef uint8_t (*crest_unmask_function)(
        uint8_t* dst, const uint8_t* src, size_t size, const uint8_t* key, size_t offset) noexcept

    ctypedef struct crest_unmask_variant:
        const char* name
        crest_unmask_function call

    enum:
        CREST_UNMASK_VARIANTS

    uint8_t crest_unmask(
        uint8_t* dst, const uint8_t* src, size_t size, const uint8_t* key, size_t offset) noexcept
    size_t crest_unmask_variants(crest_unmask_variant* found) noexcept
    void crest_mask_init() noexcept
