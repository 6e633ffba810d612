"""The newest message of each key, for outboxes that lag: with the policy "latest", what has a key is state, not
history.

An outbox that keeps up gets every message, in order, from the fan-out's log, and this room only takes notes. An outbox
that does not is said to lag: it gets no keyed messages, and only the number of the first that it lacks is kept. When it
has sent what it had, it gets the newest of each key from there on, in the order of their last updates. It gets them a
bit at a time, for what is still to come may be superseded meanwhile. Messages that were superseded before it got them
count as dropped.

Notes are kept as long as an outbox lags, or the log has the messages.
"""

cimport cython
from libc.stdint cimport UINT64_MAX, uint64_t
from libc.string cimport memcpy

from crest.io.loop.budget cimport Budget
from crest.io.loop.turn cimport Block
from crest.io.out.backlog cimport Backlog

cdef size_t COPIED = 8192       # bytes: a frame up to this is copied into a queue, a larger one is referenced
cdef size_t LEAST_ORDER = 64    # values, superseded ones among them, up to which `order` is not cleaned up


@cython.final
cdef class Value:
    """A message with a key, framed."""


@cython.final
cdef class Latest:
    """The newest messages of one fan-out, and which of them each outbox lacks.

    Args:
        budget: that the messages' memory counts against.
        max_backlog: bytes of messages that one outbox may lack.
    """

    def __cinit__(self, Budget budget not None, max_backlog):
        self.budget = budget
        self.max_backlog = max_backlog
        self.newest = {}
        self.order = []
        self.behind = {}

    cdef Value supersede(self, object key):
        """Make the `Value` of a new message of a key, which goes into the log soon. The key's own methods, which may do
        anything, are called here: before anything is published."""
        cdef Value value = Value.__new__(Value), older = self.newest.get(key)
        value.key = key
        # One without a frame was never recorded: another fan-out could not look the key up.
        value.older = older.older if older is not None and older.frame is None else older
        self.newest[key] = value
        return value

    cdef int announce(self, Value value, uint64_t position, size_t room) except -1:
        """Allocate what `record` needs. The message will most likely go into the log at this position, with a frame of
        at most `room` bytes. It counts as superseded until it is recorded."""
        value.announced = Block(room, self.budget)
        value.position = position
        value.number = self.count
        self.order.append(value)
        return 0

    cdef int record(self, Value value, const char* data, size_t size) except -1:
        """Copy the message's frame: it goes into the log, where it was announced."""
        value.frame, value.announced = value.announced, None
        memcpy(value.frame.data, data, size)
        value.size = size
        self.summed = False
        if value.older is not None:
            self.retire(value.older)
            value.older = None
        self.count += 1
        self.size += size
        return 0

    cdef int bound(self) except -1:
        """Keep no more bytes than may wait for one outbox; called after `record`."""
        if self.size > self.max_backlog and self.behind:
            self.close_slowest()
        return 0

    cdef int retire(self, Value value) except -1:
        """Let go of a message's frame: no outbox gets it any more."""
        if value.frame is not None:
            value.frame = None
            self.size -= value.size
        return 0

    cdef size_t find(self, uint64_t position, uint64_t number) except? 0:
        """Find the first value in `order` whose position and number are at least these; returns its index."""
        cdef size_t low = 0, high = len(self.order), middle
        cdef Value value
        while low < high:
            middle = (low + high) // 2
            value = self.order[middle]
            if value.position < position or value.number < number:
                low = middle + 1
            else:
                high = middle
        return low

    cdef uint64_t position_of(self, size_t index, uint64_t otherwise) except? 0:
        """Return the log's position at which `order[index]` begins; `otherwise` if there is none."""
        return (<Value>self.order[index]).position if index < <size_t>len(self.order) else otherwise

    cdef uint64_t end_of(self, size_t index, uint64_t otherwise) except? 0:
        """Return the log's position at which `order[index]` ends; `otherwise` if there is none."""
        if index >= <size_t>len(self.order):
            return otherwise
        return (<Value>self.order[index]).position + (<Value>self.order[index]).size

    # ---- Outboxes that lag ---------------------------------------------------------------------------------------

    cdef int begin(self, Backlog outbox, size_t index) except -1:
        """Have an outbox lag from `order[index]` on; no-op if it lags already, or there is no such value."""
        if not outbox.lagging and index < <size_t>len(self.order):
            self.behind[outbox] = (<Value>self.order[index]).number
            outbox.lagging = True
        return 0

    cdef int end(self, Backlog outbox) except -1:
        if outbox.lagging:
            outbox.lagging = False
            del self.behind[outbox]
        return 0

    cdef size_t refill(self, Backlog outbox, size_t most) except? 0:
        """Queue what an outbox lacks, until that is `most` bytes or more; returns how many. An outbox that has got all
        lags no longer."""
        cdef uint64_t number = self.behind[outbox]
        cdef size_t index = self.find(0, number), pushed = 0
        cdef Value value
        while index < <size_t>len(self.order) and pushed < most:
            value = self.order[index]
            index += 1
            if value.frame is None:
                continue
            if value.size <= COPIED:
                outbox.push_copy(value.frame.data, value.size, NULL, 0)
            else:
                outbox.push(value.frame, value.frame.data, value.size)
            pushed += value.size
            outbox.lose(value.number - number)
            number = value.number + 1
        if index == <size_t>len(self.order):
            self.end(outbox)
        else:
            self.behind[outbox] = number
        return pushed

    cdef int give_up(self, Backlog outbox) except -1:
        """Count what an outbox lacks as dropped: it will never get it."""
        cdef uint64_t number = self.behind[outbox]
        outbox.lose(self.count - number)
        return 0

    cdef uint64_t lag(self, Backlog outbox) except? 0:
        """Count the bytes that an outbox lacks."""
        cdef size_t index
        if not outbox.lagging:
            return 0
        index = self.find(0, self.behind[outbox])
        if index == <size_t>len(self.order):
            return 0
        self.sum_up()
        return (<Value>self.order[index]).ahead

    cdef int sum_up(self) except -1:
        """Sum up the bytes that an outbox lacks from each value on, once for all outboxes that lag.

        When the budget is used up, thousands of them may be asked in one go. A value that is forgotten, because it was
        superseded or is the oldest, changes no sum."""
        cdef uint64_t size = 0
        cdef Value value
        cdef Py_ssize_t i = len(self.order)
        if not self.summed:
            while i:  # reversed() makes an object, and so might have the collector run anything
                i -= 1
                value = self.order[i]
                if value.frame is not None:
                    size += value.size
                value.ahead = size
            self.summed = True
        return 0

    cdef int close_slowest(self) except -1:
        """Close the outboxes that lack more bytes than may wait for one, and forget what no outbox lacks."""
        cdef uint64_t size = 0, first = UINT64_MAX, number
        cdef Value value
        cdef Backlog outbox
        for value in reversed(self.order):
            if value.frame is not None:
                size += value.size
                if size > self.max_backlog:
                    for outbox, number in list(self.behind.items()):
                        if number <= value.number:
                            outbox.overflow(0)
                    break
        for number in self.behind.values():
            first = min(first, number)
        if first != UINT64_MAX:
            self.forget_before(first)
        return 0

    # ---- Notes ---------------------------------------------------------------------------------------------------

    cdef int round_over(self, uint64_t start) except -1:
        """Forget notes that are not needed any more: all outboxes but those that lag have the log up to `start`."""
        cdef Value value
        if not self.order:
            return 0
        if not self.behind:
            value = self.order[len(self.order) - 1]
            if value.position < start:
                self.forget_all()
        elif <size_t>len(self.order) > LEAST_ORDER + 2 * <size_t>len(self.newest):
            try:
                self.order = [value for value in self.order if value.frame is not None or value.position >= start]
            except MemoryError:  # the end of another round tries again
                pass
        return 0

    cdef int forget_all(self) except -1:
        """Forget all messages: no outbox lacks any, nor will any outbox."""
        self.newest.clear()
        self.order.clear()
        self.size = 0
        return 0

    cdef int forget_before(self, uint64_t number) except -1:
        """Forget messages with a smaller number. The keys' own methods are called last: they may raise."""
        cdef size_t index = self.find(0, number)
        cdef Value value
        forgotten = [value for value in self.order[:index] if value.frame is not None]
        del self.order[:index]
        for value in forgotten:
            self.retire(value)
        for value in forgotten:
            self.newest.pop(value.key, None)
        return 0
