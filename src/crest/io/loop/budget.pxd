# The memory of all messages that wait; see budget.pyx.

from libc.stdint cimport uint64_t

from crest.io.loop.census cimport Census


cdef class Budget:
    cdef object loop, flush
    cdef readonly uint64_t limit        # bytes
    cdef readonly uint64_t used         # bytes
    cdef bint scheduled
    cdef bint watching
    cdef Census census                  # None: the limit is for this process alone
    cdef set behind                     # the consumers for which something waits
    cdef dict kept                      # Kept, borrowed, by the address of its object

    cdef int take(self, uint64_t size) except -1
    cdef int give(self, uint64_t size) except -1
    cdef int shed_soon(self) except -1
    cdef int watch(self) except -1
    cdef int fell_behind(self, object consumer) except -1
    cdef int caught_up(self, object consumer) except -1
    cdef Kept keep(self, object owner)
    cdef Py_ssize_t shed_until(self, uint64_t goal, list slowest, str how) except -1


cdef class Kept:
    cdef object owner
    cdef object address             # the owner's, as the budget's `kept` has it
    cdef Budget budget              # None: it does not count
    cdef size_t size
