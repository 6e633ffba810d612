# What waits to be sent over one link; see outgoing.pyx.

from libc.stdint cimport uint32_t, uint64_t

from crest.cluster.record cimport Cause, Loss
from crest.io.loop.turn cimport Block, Turn
from crest.io.out.pieces cimport Pieces

cdef class Outgoing(Pieces):
    cdef Turn turn              # None: the records are taken by a test
    cdef readonly size_t limit  # bytes
    cdef uint32_t number        # the origin of GAPs
    cdef Cause cause            # of GAPs
    cdef size_t begun           # bytes: the rest of a record of which a part was sent
    cdef Loss loss              # of what was dropped since the last GAP was queued
    cdef Block written          # that records are written to
    # Records that follow each other in a block, and are not queued yet. NULL: there are none.
    cdef Block run
    cdef const char* run_start
    cdef const char* run_end
    cdef readonly uint64_t lost     # messages that were dropped here

    cdef int append(self, Block block, const char* record, size_t size) except -1
    cdef int commit(self) except -1
    cdef char* reserve(self, size_t size) except NULL
    cdef int push_reserved(self, size_t size) except -1
    cdef int put(self, bytes record) except -1
    cdef int ended(self) except -1
    cdef int miss(self, bint plain) noexcept
    cdef int bound(self) except -1
    cdef int insert_at(self, size_t position, bytes records) except -1
    cdef int complete(self) except -1
    cdef int sent(self, size_t size) except -1
    cdef int drop_begun(self) except -1
    cdef int cancel(self, Loss* waiting) noexcept
    cdef int insert_first(self, bytes records) except -1
