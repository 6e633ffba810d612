# The connections of several processes; see census.pyx.

from libc.stdint cimport uint32_t, uint64_t

cdef extern from "census.h":
    ctypedef struct crest_census_slot:
        uint32_t accepting
        uint32_t connections
    int CREST_CENSUS_SLOT


cdef class Census:
    cdef Py_buffer memory
    cdef crest_census_slot* slots
    cdef uint32_t count             # slots
    cdef readonly uint32_t slot     # this process's

    cdef void note(self, uint32_t connections) noexcept
    cdef bint is_ahead(self) noexcept
    cdef void note_waiting(self, uint64_t size) noexcept
    cdef uint64_t share(self, uint64_t limit) noexcept
    cdef uint64_t allowed(self, uint64_t limit, uint64_t own) noexcept
