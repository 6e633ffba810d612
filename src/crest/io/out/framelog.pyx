"""The log of a fan-out: the frames that some of its outboxes have yet to get, in blocks of shared memory.

Positions count bytes, and only grow. What lies before `start` is with every outbox that it is for, or among its pieces.
A block stays as long as an outbox has pieces of it.
"""

from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy

from crest.cpython cimport Py_REFCNT
from crest.io.loop.lists cimport drop_first, drop_last
from crest.io.loop.turn cimport Block
from crest.io.out.backlog cimport Backlog, Feed
from crest.io.syscalls cimport crest_piece
from crest.wire.frames cimport frame_size, write_header

cdef size_t BLOCK = 1 << 16     # bytes of log that are allocated at a time; a larger frame has its own block


cdef class Log(Feed):
    def __cinit__(self):
        self.blocks = []

    # ---- Writing -------------------------------------------------------------------------------------------------

    cdef Block tail(self, size_t needed):
        """Return a block at the log's end with room for so many bytes."""
        cdef Block block = None
        if self.blocks:
            block = self.blocks[len(self.blocks) - 1]
        if block is None or block.room - block.used < needed:
            block = Block(max(needed, BLOCK), self.turn.budget)
            self.blocks.append(block)
        return block

    cdef uint64_t append(self, Block block, uint8_t opcode, const char* data, size_t size) noexcept:
        """Frame a message at the end of `block`, the log's last, which has room for it; returns the frame's bytes."""
        cdef size_t header_size = write_header(<uint8_t*>block.data + block.used, opcode, size)
        memcpy(block.data + block.used + header_size, data, size)
        block.used += header_size + size
        self.end += header_size + size
        return header_size + size

    # ---- Reading -------------------------------------------------------------------------------------------------

    cdef size_t unsent(self, crest_piece* pieces, uint64_t goal) except 0:
        """Fill in the pieces of the log from `start` to `goal`; returns how many."""
        cdef size_t count = 0
        cdef uint64_t base = self.base
        cdef Block block
        for block in self.blocks:
            if base >= goal:
                break
            pieces[count].owner = <void*>block
            pieces[count].data = block.data
            pieces[count].size = min(block.used, goal - base)
            base += block.used
            count += 1
        pieces[0].data += self.start - self.base
        pieces[0].size -= self.start - self.base
        return count

    cdef uint64_t frame_end(self, uint64_t position) except? 0:
        """Find the end of the frame that `position` is in, or behind which it is."""
        cdef uint64_t base = self.base, at = self.start
        cdef Block block
        for block in self.blocks:
            while at < position and at < base + block.used:
                at += frame_size(<const uint8_t*>block.data + (at - base))
            base += block.used
        return at

    cdef int push_range(self, Backlog outbox, uint64_t position, uint64_t stop) except -1:
        """Give the outbox pieces for the log between two positions. `seen` moves with each piece: after a MemoryError
        it tells what the outbox has got."""
        cdef uint64_t base = self.base
        cdef uint64_t upto
        cdef Block block
        for block in self.blocks:
            upto = min(stop, base + block.used)
            if position < upto:
                outbox.push_shared(block, block.data + (position - base), upto - position)
                outbox.seen = position = upto
            base += block.used
        return 0

    cdef uint64_t push_each(self, Backlog outbox) except? 0:
        """Push frame by frame what the outbox has not seen, as its policy lets each in; returns how many it refused."""
        cdef uint64_t base = self.base, at = outbox.seen, size, refused = 0
        cdef Block block
        outbox.seen = self.end
        for block in self.blocks:
            while base <= at < base + block.used:
                size = frame_size(<const uint8_t*>block.data + (at - base))
                if outbox.has_room(size):
                    outbox.push_shared(block, block.data + (at - base), size)
                else:
                    refused += 1
                at += size
            base += block.used
        return refused

    cdef uint64_t fitting(self, uint64_t position, uint64_t stop, uint64_t size, uint64_t* refused) except? 0:
        """Find the end of the last frame that fits, if the frames from `position` on may take `size` bytes together.

        A frame begins at `position`, and one at `stop`. `refused` grows by the number of frames in between that do not
        fit. If it is not 0 at the call, none fits."""
        cdef uint64_t base = self.base, at = position, fits = position, limit = position + size
        cdef const uint8_t* head
        cdef Block block
        for block in self.blocks:
            while base <= at < min(base + block.used, stop):
                head = <const uint8_t*>block.data + (at - base)
                at += frame_size(head)
                if at <= limit and refused[0] == 0:
                    fits = at
                else:
                    refused[0] += 1
            base += block.used
        return fits

    # ---- Letting go ----------------------------------------------------------------------------------------------

    cdef int release(self) except -1:
        """Let go of the blocks before `start`. One block is kept to go on with. Its memory is used again from the
        beginning, unless an outbox still has pieces of it."""
        cdef Block block = self.blocks[0]
        while self.base + block.used <= self.start and len(self.blocks) > 1:
            self.base += block.used
            drop_first(self.blocks)
            block = self.blocks[0]
        if self.start < self.end:
            return 0
        if block.room > BLOCK:
            drop_last(self.blocks)
            self.base = self.end
        elif Py_REFCNT(<PyObject*>block) == 2:  # the list, and this function
            block.used = 0
            self.base = self.end
        return 0
