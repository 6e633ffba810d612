"""What waits to be sent over one link: records, in a queue that is bounded.

Records that came in a block are queued as a piece of that block, and all queues that get them share it. Records that
follow each other there are one piece. A short run in a large block is copied: it would keep the whole block.

Past the limit the oldest records go: messages, and OPAQUE ones. The rest is kept, as links cannot work without it. In
their place a GAP says how many are missing. It is written as late as can be, before the next send: so gaps that follow
each other are one. A record of which a part was sent is never dropped.

What must hold:

- Each piece holds whole records. The first `begun` bytes of the queue are an exception: the rest of one record.
- A run is queued before anything else changes the queue.
- What is dropped is counted in `loss` when it is out of the queue, and not before: a failed allocation changes nothing.
"""

from cpython.bytes cimport PyBytes_AS_STRING
from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from crest.cluster.record cimport (
    AWAY,
    GAP,
    HEADER,
    MESSAGE,
    OPAQUE,
    SLOW,
    VOID,
    Cause,
    Header,
    Loss,
    add_loss,
    begin_header,
    is_loss,
    packed,
)
from crest.cpython cimport Py_REFCNT
from crest.io.loop.budget cimport Budget
from crest.io.loop.turn cimport Block, Turn
from crest.io.out.pieces cimport Pieces
from crest.io.syscalls cimport crest_now

cdef size_t BLOCK = 1 << 16         # bytes of a block that records are written to
cdef size_t SHARED = 8              # a run is copied if it is shorter than the block divided by this


cdef class Outgoing(Pieces):
    """The queue of one link.

    Args:
        turn: at the end of which it is flushed; None: it never is.
        limit: bytes.
        number: of the worker that GAPs are said to come from.
        away: True if a full queue means that the publisher cannot send, False if it means that the reader is slow.
    """

    def __cinit__(self, Turn turn, size_t limit, uint32_t number=0, bint away=False):
        self.turn = turn
        self.limit = limit
        self.number = number
        self.cause = AWAY if away else SLOW

    cdef Budget budget(self):
        return None

    cdef int flush(self) except -1:
        return 0

    # ---- Putting in ----------------------------------------------------------------------------------------------

    cdef int append(self, Block block, const char* record, size_t size) except -1:
        """Add a whole record that lies in a block. `commit` must follow, before the block changes."""
        if self.run_end != record or self.run is not block:
            if self.run_start != NULL:
                self.commit()
            self.run = block
            self.run_start = record
        self.run_end = record + size
        return 0

    cdef int commit(self) except -1:
        """Queue the run. Without memory its records are lost, and counted."""
        cdef Block block = self.run
        cdef const char* start = self.run_start
        cdef size_t size = self.run_end - start
        if start == NULL:
            return 0
        self.run = None
        self.run_start = self.run_end = NULL
        try:
            if size * SHARED < block.room:
                memcpy(self.reserve(size), start, size)
                self.push_reserved(size)
            else:
                self.push(block, start, size)
        except MemoryError:
            count_all(self, start, size)
        return self.ended()

    cdef char* reserve(self, size_t size) except NULL:
        """Return room for so many bytes of whole records; `push_reserved` queues them."""
        cdef Block block = self.written
        if block is not None and not self.queued and Py_REFCNT(<PyObject*>block) == 2:  # `block` and `written`
            block.used = 0
        if block is None or block.room - block.used < size:
            block = Block(max(size, BLOCK), None)
            self.written = block
        return block.data + block.used

    cdef int push_reserved(self, size_t size) except -1:
        """Queue what was written to reserved room."""
        cdef Block block = self.written
        self.push(block, block.data + block.used, size)
        block.used += size
        return 0

    cdef int put(self, bytes record) except -1:
        """Queue a copy of a whole record."""
        self.commit()
        memcpy(self.reserve(len(record)), PyBytes_AS_STRING(record), len(record))
        self.push_reserved(len(record))
        return self.ended()

    cdef int ended(self) except -1:
        """Hold the limit, and have the queue flushed: something was queued."""
        if self.queued > self.limit:
            self.bound()
        if self.turn is not None:
            self.turn.add(self)
        return 0

    cdef int miss(self, bint plain) noexcept:
        """Count a message that could not be queued."""
        cdef Header header
        begin_header(&header, MESSAGE, self.number)
        header.addresses_size = 0 if plain else HEADER
        count_message(&header, self.cause, &self.loss)
        self.lost += 1
        return 0

    # ---- The limit -----------------------------------------------------------------------------------------------

    cdef int bound(self) except -1:
        """Drop the oldest messages until the rest is within the limit."""
        cdef size_t excess = self.queued - self.limit, at = self.begun, place = self.begun, dropped = 0
        cdef uint32_t i = self.first
        cdef uint64_t messages = 0
        cdef const char* record
        cdef Header header
        cdef Loss loss
        cdef bytes kept = b""
        memset(&loss, 0, sizeof(loss))
        while dropped < excess and at < self.queued:
            if place == self.pieces[i].size:
                i += 1
                place = 0
            record = self.pieces[i].data + place
            memcpy(&header, record, HEADER)
            if count(&header, record, self.cause, &loss):
                dropped += header.size
                messages += header.kind == MESSAGE
            else:
                kept += record[:header.size]
            at += header.size
            place += header.size
        if kept:
            self.insert_at(at, kept)
        self.cut(self.begun, at)
        add_loss(&self.loss, &loss)
        self.lost += messages
        return 0

    cdef int insert_at(self, size_t position, bytes records) except -1:
        """Queue copies of whole records at a position that is between two."""
        cdef Block block = Block(len(records), None)
        memcpy(block.data, PyBytes_AS_STRING(records), len(records))
        block.used = len(records)
        return self.insert(position, block, block.data, block.used)

    cdef int complete(self) except -1:
        """Queue the GAP that is owed, in the place of what was dropped; before each send."""
        cdef Header header
        self.commit()
        if is_loss(&self.loss):
            begin_header(&header, GAP, self.number)
            header.opcode = <uint8_t>self.cause
            self.insert_at(self.begun, packed(&header, &self.loss, sizeof(Loss), None))
            memset(&self.loss, 0, sizeof(Loss))
        return 0

    # ---- Taking out ----------------------------------------------------------------------------------------------

    cdef int sent(self, size_t size) except -1:
        """Take out bytes that were sent. They may end within a record."""
        cdef size_t at = self.begun, place = self.begun
        cdef uint32_t i = self.first, length
        if size == self.queued:
            self.begun = 0
        elif size <= self.begun:
            self.begun -= size
        else:
            while at < size:
                if place == self.pieces[i].size:
                    i += 1
                    place = 0
                memcpy(&length, self.pieces[i].data + place, 4)
                at += length
                place += length
            self.begun = at - size
        return self.consume(size)

    cdef int drop_begun(self) except -1:
        """Drop the rest of a record of which a part was sent: the link that has the part is lost."""
        self.commit()
        self.consume(self.begun)
        self.begun = 0
        return 0

    cdef int cancel(self, Loss* waiting) noexcept:
        """Make VOID what is not dropped past the limit either; count the rest, in a queue of which no record was begun.
        All must be records that were written here: no other queue has them."""
        cdef size_t at = 0, place = 0
        cdef uint32_t i = self.first
        cdef char* record
        cdef Header header
        waiting[0] = self.loss
        while at < self.queued:
            if place == self.pieces[i].size:
                i += 1
                place = 0
            record = <char*>self.pieces[i].data + place
            memcpy(&header, record, HEADER)
            if not count(&header, record, self.cause, waiting):
                header.kind = VOID
                memcpy(record, &header, HEADER)
            at += header.size
            place += header.size
        return 0

    cdef int insert_first(self, bytes records) except -1:
        """Queue records before all others, in a queue of which no record was begun."""
        return self.insert_at(0, records)

    # ---- For Python ----------------------------------------------------------------------------------------------

    @property
    def waiting(self):
        """Bytes that are queued."""
        return self.queued

    def take(self, size_t size):
        """Take out the first bytes, as if they were sent; fewer if there are fewer. For tests."""
        cdef bytes data
        self.complete()
        data = self.head(size)
        self.sent(len(data))
        return data

    def add(self, bytes record not None):
        """Queue a copy of a whole record."""
        self.put(record)


cdef bint count(const Header* header, const char* record, Cause cause, Loss* loss) noexcept:
    """Count a record that is to be dropped; False for one that must not be."""
    cdef Loss one
    if header.kind == MESSAGE or header.kind == OPAQUE:
        count_message(header, cause, loss)
        return True
    if header.kind == GAP:
        memcpy(&one, record + HEADER, sizeof(one))
        add_loss(loss, &one)
        return True
    return header.kind == VOID


cdef void count_message(const Header* header, Cause cause, Loss* loss) noexcept:
    """Count a message that is to be dropped, or was not queued."""
    cdef Loss one
    memset(&one, 0, sizeof(one))
    one.since = one.until = crest_now() // 1000000
    if header.kind == OPAQUE:
        one.others = 1
    elif not header.addresses_size:
        one.plain = 1
    elif cause == AWAY:
        one.uncertain = 1
    else:
        one.addressed = 1
    add_loss(loss, &one)


cdef int count_all(Outgoing outgoing, const char* data, size_t size) except -1:
    """Count whole records as lost."""
    cdef Header header
    cdef size_t at = 0
    while at < size:
        memcpy(&header, data + at, HEADER)
        count(&header, data + at, outgoing.cause, &outgoing.loss)
        outgoing.lost += header.kind == MESSAGE
        at += header.size
    return 0
