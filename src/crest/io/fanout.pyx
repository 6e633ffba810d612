"""One message to many connections.

A broadcast is framed once, into a log; a connection holds no copy of it, only a position. At the end of the turn each
connection gets one send of all that it has not seen: for those with nothing of their own queued, the common case,
that is a loop without the GIL over their sockets. Only who could not take it all right away gets pieces of the log's
blocks into its outbox, so that a slow connection costs pieces that grow, and blocks stay as long as somebody has them
to send.

It owns the log and the list of members. What a member does with its pieces is the outbox's business.
"""

cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy

from crest.io.outbox cimport CREST_WOULD_BLOCK, Feed, Outbox, crest_prefetch, crest_send, is_ready
from crest.io.pieces cimport crest_piece
from crest.io.turn cimport Block, Turn
from crest.wire.frames cimport MAX_SERVER_HEADER, write_header

cdef extern from "Python.h":
    ctypedef struct PyListObject:
        PyObject** ob_item
    Py_ssize_t Py_REFCNT(PyObject* o) noexcept
    Py_ssize_t PyList_GET_SIZE(list items) noexcept nogil

cdef size_t BLOCK = 1 << 16             # bytes of log that are allocated at a time; a larger frame has its own
cdef uint64_t FLUSHED_AT = 1 << 18      # bytes: with so many unsent, the turn's end is not waited for
cdef enum:
    MOST_BLOCKS = 32                    # likewise, with so many blocks unsent


@cython.final
cdef class Fanout(Feed):
    """The connections of one server, and the log of what was broadcast to them.

    Args:
        turn: of the loop that the connections belong to.
        max_backlog: bytes that may wait for a connection that does not read fast enough.
        drop: what happens past that: drop the newest message, or else close the connection.
    """

    def __cinit__(self, Turn turn not None, *, max_backlog, bint drop):
        self.turn = turn
        self.max_backlog = max_backlog
        self.drop = drop
        self.members = []
        self.blocks = []

    cdef int join(self, Outbox outbox) except -1:
        """A connection has opened: it gets what is broadcast from now on."""
        outbox.seen = self.end
        outbox.slot = len(self.members)
        self.members.append(outbox)
        return 0

    cdef int leave(self, Outbox outbox) except -1:
        """A connection is closing: it gets what was broadcast before, and nothing more."""
        cdef Outbox last
        self.catch_up(outbox)
        last = self.members.pop()
        if last is not outbox:
            self.members[outbox.slot] = last
            last.slot = outbox.slot
        return 0

    cdef int publish(self, uint8_t opcode, const char* data, size_t size) except -1:
        """Broadcast one message."""
        cdef Block block = None
        cdef size_t needed = size + MAX_SERVER_HEADER, header_size
        if not self.members:
            return 0
        if self.blocks:
            block = self.blocks[len(self.blocks) - 1]
        if block is None or block.room - block.used < needed:
            block = Block(max(needed, BLOCK))
            self.blocks.append(block)
        header_size = write_header(<uint8_t*>block.data + block.used, opcode, size)
        memcpy(block.data + block.used + header_size, data, size)
        block.used += header_size + size
        self.end += header_size + size
        if self.end - self.start >= FLUSHED_AT or len(self.blocks) == MOST_BLOCKS:
            self.flush()
        else:
            self.turn.add(self)
        return 0

    cdef int flush(self) except -1:
        cdef crest_piece pieces[MOST_BLOCKS]
        cdef ptrdiff_t sent = 0
        cdef size_t count
        cdef Py_ssize_t at = 0
        cdef Outbox outbox
        if self.start == self.end:
            return 0
        count = self.unsent(pieces)
        # Members come and go while the late ones are served (one over its backlog leaves), so those are collected
        # first.
        late = []
        while True:
            with nogil:
                at = self.send_ready(at, pieces, count, &sent)
            if at == len(self.members):
                break
            outbox = self.members[at]
            if sent >= 0:
                self.push_range(outbox, self.start + sent, self.end)
                outbox.seen = self.end
            late.append(outbox)
            at += 1
        for outbox in late:
            if outbox.blocked:
                self.catch_up(outbox)
            else:
                outbox.flush()
        self.start = self.end
        return self.clear()

    cdef size_t unsent(self, crest_piece* pieces) except 0:
        """Fill in the pieces of the log from `start` to `end`; returns how many."""
        cdef size_t count = 0
        cdef Block block
        for block in self.blocks:
            pieces[count].owner = <void*>block
            pieces[count].data = block.data
            pieces[count].size = block.used
            count += 1
        pieces[0].data += self.skipped
        pieces[0].size -= self.skipped
        return count

    cdef Py_ssize_t send_ready(
            self, Py_ssize_t at, const crest_piece* pieces, size_t count, ptrdiff_t* sent) noexcept nogil:
        """Send to one member after the other, from `at`, as long as each takes everything. Returns who did not, with
        the bytes that it took in `sent` (negative: none were sent, it has output of its own or the connection is
        broken)."""
        cdef PyObject** members = (<PyListObject*>self.members).ob_item
        cdef Py_ssize_t n = PyList_GET_SIZE(self.members)
        cdef ptrdiff_t size = <ptrdiff_t>(self.end - self.start)
        while at < n:
            if at + 2 < n:
                crest_prefetch(members[at + 2])
            if (<Outbox>members[at]).seen < self.end:
                if (<Outbox>members[at]).seen > self.start or not is_ready(<Outbox>members[at]):
                    sent[0] = -1
                    return at
                sent[0] = crest_send((<Outbox>members[at]).fd, pieces, count)
                if sent[0] != size:
                    if sent[0] == CREST_WOULD_BLOCK:
                        sent[0] = 0
                    return at
            at += 1
        return at

    cdef int catch_up(self, Outbox outbox) except -1:
        """Give the outbox pieces for all of the log that it has not seen, as far as its backlog allows."""
        cdef uint64_t position = max(outbox.seen, self.start), stop = self.end, refused = 0
        if position >= stop:
            return 0
        if outbox.blocked and outbox.waiting() + (stop - position) > self.max_backlog:
            stop = self.fitting(position, self.max_backlog - min(outbox.waiting(), self.max_backlog), &refused)
        outbox.seen = self.end
        self.push_range(outbox, position, stop)
        if refused:
            outbox.overflow(refused)
        return 0

    cdef int push_range(self, Outbox outbox, uint64_t position, uint64_t stop) except -1:
        """Give the outbox pieces for the log between two positions."""
        cdef uint64_t base = self.start - self.skipped
        cdef uint64_t upto
        cdef Block block
        for block in self.blocks:
            upto = min(stop, base + block.used)
            if position < upto:
                outbox.push_shared(block, block.data + (position - base), upto - position)
                position = upto
            base += block.used
        return 0

    cdef uint64_t fitting(self, uint64_t position, uint64_t size, uint64_t* refused) except? 0:
        """Where the frames from `position` on, which begins one, come to more than `size` bytes; `refused` gets how
        many frames follow from there."""
        cdef uint64_t base = self.start - self.skipped, at = position, stop = position, limit = position + size
        cdef const uint8_t* head
        cdef Block block
        for block in self.blocks:
            while base <= at < base + block.used:
                head = <const uint8_t*>block.data + (at - base)
                at += frame_size(head)
                if at <= limit and refused[0] == 0:
                    stop = at
                else:
                    refused[0] += 1
            base += block.used
        return stop

    cdef int clear(self) except -1:
        """Everyone has everything, or pieces of it: keep a block to go on with. Its memory is used again from the start
        unless somebody still has pieces of it."""
        cdef Block block = self.blocks[len(self.blocks) - 1]
        if block.room > BLOCK:
            self.blocks = []
            self.skipped = 0
            return 0
        self.blocks = [block]
        if Py_REFCNT(<PyObject*>block) == 2:  # that list, and this function
            block.used = 0
        self.skipped = block.used
        return 0


cdef uint64_t frame_size(const uint8_t* head) noexcept:
    """Bytes of a frame that `write_header` made, its header included."""
    cdef uint64_t size = head[1]
    cdef int i
    if size < 126:
        return 2 + size
    if size == 126:
        return 4 + (head[2] << 8 | head[3])
    size = 0
    for i in range(2, 10):
        size = size << 8 | head[i]
    return 10 + size
