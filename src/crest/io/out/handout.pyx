"""Messages to rooms that are small, or for which the log is not free: they are given to outboxes one by one.

A message is framed once, into a block that all queues share. Each outbox gets a piece of it behind all that was
published to it before, and is flushed at the end of the turn: what it got from several rooms leaves in one send.
"""

cimport cython
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport UINT64_MAX, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

import logging

from crest.cpython cimport Py_REFCNT
from crest.io.loop.turn cimport Block, Pending, Turn, begin_section, end_section
from crest.io.out.backlog cimport ACCEPTING, Feed
from crest.io.out.circle cimport Circle
from crest.io.out.latest cimport Latest
from crest.io.out.outbox cimport Outbox
from crest.io.syscalls cimport crest_now, crest_prefetch
from crest.wire.frames cimport MAX_SERVER_HEADER, write_header

logger = logging.getLogger("crest")

cdef size_t BLOCK = 1 << 16         # bytes for frames that are allocated at a time; a larger one has its own block
cdef size_t FLUSHED_AT = 1 << 16    # bytes: with so many that wait, an outbox is flushed at once
cdef size_t FEW = 1 << 12           # outboxes: a list with room for more is not kept
cdef enum:
    SENDS_A_LOOK = 32               # sends between two looks at the clock
    AHEAD = 8                       # members: memory of so many is on its way to the cache while one gets a message
    CACHE_LINE = 64                 # bytes

cdef uint32_t serial = 0            # of messages for which outboxes are marked, on all loops


@cython.final
cdef class Handout(Pending):
    """Gives messages to outboxes of one fan-out.

    Args:
        turn: of the loop that they belong to.
        slice: nanoseconds after which a round is interrupted. Flushing is after two fifths of that: peers that have
            their messages answer meanwhile (`make compare`, scenario rooms-10-of-1000-1).
    """

    def __cinit__(self, Turn turn not None, uint64_t slice):
        self.turn = turn
        self.slice = slice * 2 // 5

    def __dealloc__(self):
        self.forget()
        PyMem_Free(self.given)

    cdef void forget(self) noexcept:
        """Let go of the outboxes that are yet to be flushed. They refer to this, and the collector does not see it."""
        while self.at < self.count:
            self.at += 1
            Py_DECREF(<object>self.given[self.at - 1])

    cdef Block prepare(self, size_t size, size_t outboxes):
        """Make room for a message of so many bytes to so many outboxes, before any of them has it."""
        cdef size_t needed = size + MAX_SERVER_HEADER
        self.reserve(outboxes)
        if not self.interrupted:
            self.turn.add(self)
        if self.block is None or self.block.room - self.block.used < needed:
            self.block = Block(max(needed, BLOCK), self.turn.budget)
        return self.block

    cdef int reserve(self, size_t outboxes) except -1:
        """Make room for so many outboxes more."""
        cdef size_t room = max(self.count + outboxes, self.room * 2)
        cdef PyObject** grown
        if self.count + outboxes > self.room:
            grown = <PyObject**>PyMem_Realloc(self.given, room * sizeof(PyObject*))
            if grown == NULL:
                raise MemoryError
            self.given = grown
            self.room = room
        return 0

    cdef uint64_t deal(
            self, list circles, uint8_t opcode, const char* data, size_t* size, tuple excluded, object key, Feed feed,
            Latest latest) except? 0:
        """Give a message that was prepared to the members of circles, to each once, and not to those excluded.

        `size` becomes that of its frame. `latest` keeps it for members that do not keep up, if it has a key; None: keys
        mean nothing. Returns how many have got it, or will."""
        global serial
        cdef Block block = self.block
        cdef char* frame = block.data + block.used
        cdef bint marked = excluded is not None or len(circles) > 1
        cdef uint64_t given = 0
        cdef size_t i, k
        cdef Circle circle
        cdef Outbox outbox
        cdef Block alone = None
        cdef size_t header_size = write_header(<uint8_t*>frame, opcode, size[0])
        memcpy(frame + header_size, data, size[0])
        size[0] += header_size
        block.used += size[0]
        if marked:
            serial += 1
            if excluded is not None:
                for outbox in excluded:
                    if outbox.feed is feed:
                        outbox.mark = serial
        for circle in circles:
            i = circle.count
            for k in range(i - min(i, AHEAD), i):
                prefetch(circle.members[k])
            while i:  # backwards: one that stops meanwhile leaves its slot to one that has had its turn
                i -= 1
                if i >= AHEAD:
                    prefetch(circle.members[i - AHEAD])
                outbox = <Outbox>circle.members[i]
                if marked:
                    if outbox.mark == serial:
                        continue
                    outbox.mark = serial
                if key is not None and latest is not None and (outbox.blocked or outbox.lagging):
                    alone = self.keep(outbox, latest, circle, key, frame, size[0], alone)
                else:
                    self.give(outbox, frame, size[0])
                given += 1
        return given

    cdef int give(self, Outbox outbox, const char* frame, size_t size) except -1:
        """Queue a frame of the block for an outbox, behind all that was published to it before."""
        try:
            if outbox.seen < outbox.feed.end:
                outbox.feed.catch_up(outbox)
            if outbox.state != ACCEPTING:
                outbox.lose(1)
            elif not outbox.blocked:
                outbox.push_soon(self.block, frame, size)
                self.add(outbox)
                if outbox.queued >= FLUSHED_AT:
                    outbox.flush()
            elif outbox.has_room(size):
                outbox.push_shared(self.block, frame, size)
            else:
                outbox.overflow(1)
        except MemoryError as error:
            outbox.cut_short(error)
        return 0

    cdef Block keep(self, Outbox outbox, Latest latest, Circle circle, object key, const char* frame, size_t size,
                    Block alone):
        """Have a frame with a key kept for an outbox. Returns it in a block of its own: `alone`, if it is not None."""
        try:
            if outbox.seen < outbox.feed.end:
                outbox.feed.catch_up(outbox)
            if alone is None:
                alone = Block(size, self.turn.budget)
                memcpy(alone.data, frame, size)
                alone.used = size
            if outbox.state == ACCEPTING:
                latest.keep(outbox, circle, key, alone)
            else:
                outbox.lose(1)
        except MemoryError as error:
            outbox.cut_short(error)
        except Exception:
            logger.exception("A key could not be compared with another one")
            self.give(outbox, frame, size)
        return alone

    # ---- Flushing ------------------------------------------------------------------------------------------------

    cdef void add(self, Outbox outbox) noexcept:
        """Have an outbox flushed, for which there must be room."""
        if not outbox.given:
            outbox.given = True
            Py_INCREF(outbox)
            self.given[self.count] = <PyObject*>outbox
            self.count += 1

    cdef int flush(self) except -1:
        begin_section(self.turn)
        try:
            if not self.flush_until(crest_now() + self.slice) and not self.interrupted:
                try:
                    self.turn.loop.call_soon(self._go_on)
                    self.interrupted = True
                except MemoryError:
                    self.flush_until(UINT64_MAX)
        finally:
            end_section(self.turn)
        return 0

    def _go_on(self):
        self.interrupted = False
        self.flush()

    cdef bint flush_until(self, uint64_t deadline) except -1:
        """Flush outboxes until `deadline`. True if all are flushed."""
        cdef Outbox outbox
        cdef size_t look = self.at + SENDS_A_LOOK
        while self.at < self.count:
            if self.at >= look:
                if crest_now() >= deadline:
                    return False
                look += SENDS_A_LOOK
            if self.at + 2 < self.count:
                crest_prefetch(self.given[self.at + 2])
            outbox = <Outbox>self.given[self.at]
            Py_DECREF(outbox)
            self.at += 1
            outbox.given = False
            if outbox.count and not outbox.blocked:
                outbox.flush()
        self.at = self.count = 0
        if self.room > FEW:
            PyMem_Free(self.given)
            self.given = NULL
            self.room = 0
        if self.block is not None:
            if self.block.room > BLOCK:
                self.block = None
            elif Py_REFCNT(<PyObject*>self.block) == 1:
                self.block.used = 0
        return True


cdef inline void prefetch(PyObject* outbox) noexcept:
    """Have the cache fetch what `give` needs of an outbox."""
    crest_prefetch(outbox)
    crest_prefetch(<char*>outbox + CACHE_LINE)
