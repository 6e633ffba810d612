# A queue of memory that waits to be sent; see pieces.pyx.

from libc.stdint cimport uint8_t, uint32_t

from crest.io.loop.budget cimport Budget
from crest.io.loop.turn cimport Block, Pending
from crest.io.syscalls cimport crest_piece

cdef class Pieces(Pending):
    cdef crest_piece* pieces
    cdef uint32_t first, count, room    # pieces[first:first + count] wait
    # Flags of `Sender`. They fill a hole between fields: this is part of the size of an idle connection.
    cdef uint8_t limited                # the transport's buffer limits are set
    cdef uint8_t layered                # the transport is the loop's of TLS: another one is below it
    cdef uint8_t tell_drained           # owner.drained() is owed
    cdef uint8_t torn                   # bytes have left the queue, and may not have reached the transport
    cdef size_t queued                  # bytes in them
    cdef Block own                      # the last block of the queue's own; None when nothing waits

    cdef Budget budget(self)
    cdef int push(self, object owner, const char* data, size_t size) except -1
    cdef int push_copy(self, const char* header, size_t header_size, const char* data, size_t size) except -1
    cdef int push_shared(self, Block block, const char* data, size_t size) except -1
    cdef int push_soon(self, Block block, const char* data, size_t size) except -1
    cdef int copy_aside(self, crest_piece* piece, size_t more) except -1
    cdef int settle(self) except -1
    cdef bytes head(self, size_t size)
    cdef int consume(self, size_t size) except -1
    cdef int discard(self) except -1
    cdef int cut(self, size_t start, size_t stop) except -1
    cdef int insert(self, size_t position, object owner, const char* data, size_t size) except -1

    cdef int make_room(self, uint32_t more) except -1
    cdef uint32_t open(self, uint32_t index) except? 0
    cdef uint32_t split(self, size_t position) except? 0
    cdef Block tail(self, size_t needed)
