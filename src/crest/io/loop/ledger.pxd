# What each of several processes counts; see ledger.pyx.

from libc.stdint cimport uint32_t, uint64_t

cdef extern from "ledger.h":
    ctypedef struct crest_ledger_table:
        pass


cdef class Ledger:
    cdef Py_buffer memory
    cdef size_t size                # bytes of a table
    cdef uint64_t mask
    cdef uint32_t slot, count
    cdef bytes secret
    cdef readonly uint64_t refused  # values that there was no room for

    cdef bint put(self, uint64_t account, uint64_t value) noexcept
    cdef crest_ledger_table* table(self, uint32_t slot) noexcept
