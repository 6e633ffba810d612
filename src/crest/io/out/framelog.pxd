# The frames that a fan-out has not sent to everyone yet; see framelog.pyx.

from libc.stdint cimport uint8_t, uint64_t

from crest.io.loop.turn cimport Block
from crest.io.out.backlog cimport Backlog, Feed
from crest.io.syscalls cimport crest_piece

cdef enum:
    MOST_BLOCKS = 32            # with so many blocks unsent, a broadcast sends all before it returns


cdef class Log(Feed):
    cdef list blocks            # Block: they hold everything from `start` to `end`
    cdef uint64_t base          # position of the first block's first byte

    cdef Block tail(self, size_t needed)
    cdef uint64_t append(self, Block block, uint8_t opcode, const char* data, size_t size) noexcept
    cdef size_t unsent(self, crest_piece* pieces, uint64_t goal) except 0
    cdef uint64_t frame_end(self, uint64_t position) except? 0
    cdef int push_range(self, Backlog outbox, uint64_t position, uint64_t stop) except -1
    cdef uint64_t push_each(self, Backlog outbox) except? 0
    cdef uint64_t fitting(self, uint64_t position, uint64_t stop, uint64_t size, uint64_t* refused) except? 0
    cdef int release(self) except -1
