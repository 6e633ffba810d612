"""A queue of pieces of memory that wait to be sent, in order.

Most pieces have an owner, an object that keeps their memory alive: a `str`, `bytes`, or a `Block` of a broadcast's log
or of the queue's own. A piece without an owner lies in the turn's arena. It must be sent, or be settled, before the
turn ends. Pieces that follow each other in memory are one. An empty queue owns no memory.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport uint32_t
from libc.string cimport memcpy, memmove

from crest.io.loop.budget cimport Budget, Kept
from crest.io.loop.turn cimport Block, Pending

cdef uint32_t LEAST_ROOM = 4
cdef size_t COPIED = 512            # bytes: a shared piece up to this is copied when it leaves with others
# Bytes of the queue's own blocks. Each is twice as large as the one before, so that small frames cost little more than
# their bytes.
cdef size_t LEAST_BLOCK = 1024
cdef size_t LARGEST_BLOCK = 1 << 16


cdef class Pieces(Pending):
    def __dealloc__(self):
        self.discard()

    cdef int push(self, object owner, const char* data, size_t size) except -1:
        """Queue memory that `owner` keeps alive. None: the memory lies in the turn's arena."""
        cdef crest_piece* last
        cdef void* held = NULL if owner is None else <void*>owner
        if self.count:
            last = self.pieces + self.first + self.count - 1
            if last.owner == held and last.data + last.size == data:
                last.size += size
                self.queued += size
                return 0
        if self.first + self.count == self.room:
            self.make_room(1)
        last = self.pieces + self.first + self.count
        last.owner = held
        last.data = data
        last.size = size
        if held != NULL:
            Py_INCREF(owner)
        self.count += 1
        self.queued += size
        return 0

    cdef int make_room(self, uint32_t more) except -1:
        """Make room for `more` pieces at the end."""
        cdef uint32_t room = max(LEAST_ROOM, self.room * 2)
        cdef crest_piece* grown
        if self.first + self.count + more <= self.room:
            return 0
        if self.first > self.room // 2:
            memmove(self.pieces, self.pieces + self.first, self.count * sizeof(crest_piece))
            self.first = 0
            return 0
        grown = <crest_piece*>PyMem_Realloc(self.pieces, room * sizeof(crest_piece))
        if grown == NULL:
            raise MemoryError
        self.pieces = grown
        self.room = room
        return 0

    cdef Budget budget(self):
        """Return the budget that what waits here counts against."""
        raise NotImplementedError

    cdef int push_copy(self, const char* header, size_t header_size, const char* data, size_t size) except -1:
        """Queue a copy of two runs of bytes, in memory that outlasts the turn."""
        cdef Block block = self.tail(header_size + size)
        cdef char* target = block.data + block.used
        memcpy(target, header, header_size)
        if size:
            memcpy(target + header_size, data, size)
        block.used += header_size + size
        return self.push(block, target, header_size + size)

    cdef int push_shared(self, Block block, const char* data, size_t size) except -1:
        """Queue memory of a block that many queues share. Bytes that take less memory than a piece does are copied."""
        cdef crest_piece* last
        if size < sizeof(crest_piece) and self.count:
            last = self.pieces + self.first + self.count - 1
            if last.owner != <void*>block:
                return self.push_copy(data, size, NULL, 0)
        return self.push(block, data, size)

    cdef int push_soon(self, Block block, const char* data, size_t size) except -1:
        """Queue memory of a block that many queues share, to leave with what waits already. What is short and would be
        a piece of its own is copied, and the one piece before it, too: to gather pieces takes the kernel longer (`make
        compare`, scenario rooms-10-of-1000-16)."""
        cdef crest_piece* last
        if size > COPIED or not self.count:
            return self.push(block, data, size)
        last = self.pieces + self.first + self.count - 1
        if last.data + last.size == data:
            return self.push(block, data, size)
        if self.count == 1 and last.size <= COPIED and last.owner != <void*>self.own:
            self.copy_aside(last, size)
        return self.push_copy(data, size, NULL, 0)

    cdef int copy_aside(self, crest_piece* piece, size_t more) except -1:
        """Copy a piece to a block of the queue's own, with room for `more` bytes behind it."""
        cdef Block block = self.tail(piece.size + more)
        cdef void* owner = piece.owner
        memcpy(block.data + block.used, piece.data, piece.size)
        piece.data = block.data + block.used
        block.used += piece.size
        Py_INCREF(block)
        piece.owner = <void*>block
        if owner != NULL:
            Py_DECREF(<object>owner)
        return 0

    cdef Block tail(self, size_t needed):
        """Return a block of the queue's own with room for `needed` bytes: the last one if it has room, else a new
        one."""
        cdef Block block = self.own
        if block is None or block.room - block.used < needed:
            block = Block(max(needed, LEAST_BLOCK if block is None else min(block.room * 2, LARGEST_BLOCK)),
                          self.budget())
            self.own = block
        return block

    cdef int settle(self) except -1:
        """Prepare what waits for outlasting the turn: copy aside what lies in the arena, count what is referenced."""
        cdef crest_piece* piece
        cdef object owner
        cdef Kept kept
        cdef uint32_t i
        for i in range(self.first, self.first + self.count):
            piece = self.pieces + i
            if piece.owner == NULL:
                self.copy_aside(piece, 0)
            elif type(<object>piece.owner) is not Block and type(<object>piece.owner) is not Kept:
                owner = <object>piece.owner
                kept = self.budget().keep(owner)
                Py_INCREF(kept)
                piece.owner = <void*>kept
                Py_DECREF(owner)
        return 0

    cdef bytes head(self, size_t size):
        """Copy the first `size` bytes, or all if there are fewer."""
        cdef size_t at = 0, part
        cdef uint32_t i = self.first
        cdef bytes data
        size = min(size, self.queued)
        data = PyBytes_FromStringAndSize(NULL, size)
        while at < size:
            part = min(self.pieces[i].size, size - at)
            memcpy(PyBytes_AS_STRING(data) + at, self.pieces[i].data, part)
            at += part
            i += 1
        return data

    cdef int consume(self, size_t size) except -1:
        """Take the first `size` bytes from the queue."""
        cdef crest_piece* piece
        self.queued -= size
        while self.count:
            piece = self.pieces + self.first
            if size < piece.size:
                piece.data += size
                piece.size -= size
                return 0
            size -= piece.size
            self.first += 1
            self.count -= 1
            if piece.owner != NULL:
                Py_DECREF(<object>piece.owner)
        PyMem_Free(self.pieces)
        self.pieces = NULL
        self.own = None
        self.first = self.room = 0
        return 0

    cdef int discard(self) except -1:
        """Forget all that waits."""
        return self.consume(self.queued)

    # ---- In the middle -------------------------------------------------------------------------------------------

    cdef int cut(self, size_t start, size_t stop) except -1:
        """Forget the bytes between two positions, counted from the head. Pieces before `start` are moved: few, as a
        rule."""
        cdef uint32_t first, end, i
        if start == 0:
            return self.consume(stop)
        first = self.split(start) - self.first
        end = self.split(stop) - self.first  # counted from the head: splitting may have moved it
        for i in range(self.first + first, self.first + end):
            if self.pieces[i].owner != NULL:
                Py_DECREF(<object>self.pieces[i].owner)
        memmove(self.pieces + self.first + end - first, self.pieces + self.first, first * sizeof(crest_piece))
        self.first += end - first
        self.count -= end - first
        self.queued -= stop - start
        return 0

    cdef int insert(self, size_t position, object owner, const char* data, size_t size) except -1:
        """Queue memory that `owner` keeps alive, not at the end but at a position counted from the head."""
        cdef uint32_t index = self.open(self.split(position))
        cdef crest_piece* piece = self.pieces + index
        piece.owner = <void*>owner
        piece.data = data
        piece.size = size
        Py_INCREF(owner)
        self.queued += size
        return 0

    cdef uint32_t split(self, size_t position) except? 0:
        """Find the piece that begins at a position counted from the head; returns its index. A piece across the
        position is split in two."""
        cdef uint32_t index = self.first
        cdef crest_piece* piece
        while index < self.first + self.count and position >= self.pieces[index].size:
            position -= self.pieces[index].size
            index += 1
        if position:
            index = self.open(index)
            piece = self.pieces + index
            piece[0] = piece[1]
            piece.size = position
            piece[1].data += position
            piece[1].size -= position
            if piece.owner != NULL:
                Py_INCREF(<object>piece.owner)
            index += 1
        return index

    cdef uint32_t open(self, uint32_t index) except? 0:
        """Make room for a piece before the one at `index`; returns the index of that room."""
        if self.first:
            memmove(self.pieces + self.first - 1, self.pieces + self.first,
                    (index - self.first) * sizeof(crest_piece))
            self.first -= 1
            index -= 1
        else:
            self.make_room(1)
            memmove(self.pieces + index + 1, self.pieces + index, (self.count - index) * sizeof(crest_piece))
        self.count += 1
        return index
