# Threads that send a broadcast; see crew.pyx.

from cpython.object cimport PyObject
from libc.stdint cimport uint64_t

from crest.io.syscalls cimport crest_piece

cdef extern from "crew.h" nogil:
    ctypedef struct crest_crew:
        pass
    const int CREST_MOST_THREADS
    crest_crew* crest_crew_new(int helpers)
    void crest_crew_run(crest_crew* crew, void (*job)(void* argument) noexcept, void* argument)
    void crest_crew_free(crest_crew* crew)
    size_t crest_claim(size_t* next, size_t count)

cdef struct Part:
    size_t slot         # of a member that did not take everything
    size_t sent         # bytes that it took


cdef class Crew:
    cdef crest_crew* crew       # NULL: not started yet, or the system has no room for one
    cdef int helpers
    cdef void stop(self) noexcept
    cdef bint is_there(self) noexcept
    cdef size_t serve(
        self, PyObject** members, size_t end, size_t* at, const crest_piece* pieces, size_t count, uint64_t start,
        uint64_t goal, uint64_t deadline, Part* parts) except? 0
