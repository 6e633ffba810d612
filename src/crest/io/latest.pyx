"""The newest message of each key, for those who lag behind: with the policy "latest", what has a key is state, not
history.

Who keeps up gets every message, in order, from the fan-out's log, and this room only takes notes. Who does not is said
to lag: keyed messages pass it by, it has only the number of the first that it lacks. When it has taken what it had, it
gets the newest of each key from there on, in the order of their last updates, a bit at a time: what is still to come
may be superseded meanwhile. What was superseded before it got there counts as dropped.

Notes are kept as long as somebody lags, or the log has the messages.
"""

cimport cython
from libc.stdint cimport UINT64_MAX, uint64_t
from libc.string cimport memcpy

from crest.io.backlog cimport Backlog
from crest.io.budget cimport Budget
from crest.io.turn cimport Block

cdef size_t COPIED = 8192       # bytes: a frame up to this is copied into a queue, a larger one is referenced
cdef size_t LEAST_ORDER = 64    # values, superseded ones among them, that are kept without a look


@cython.final
cdef class Value:
    """A message with a key, framed."""


@cython.final
cdef class Latest:
    """The newest messages of one fan-out, and who lacks which.

    Args:
        budget: of the memory that they take.
        max_backlog: bytes of them that one outbox may lack.
    """

    def __cinit__(self, Budget budget not None, max_backlog):
        self.budget = budget
        self.max_backlog = max_backlog
        self.newest = {}
        self.order = []
        self.behind = {}

    cdef Value supersede(self, object key):
        """A new message of a key, which goes into the log soon. Whatever the key's own methods do, they do it here."""
        cdef Value value = Value.__new__(Value), older = self.newest.get(key)
        value.key = key
        # One without a frame was never recorded: another fan-out could not look the key up.
        value.older = older.older if older is not None and older.frame is None else older
        self.newest[key] = value
        return value

    cdef int announce(self, Value value, uint64_t position, size_t room) except -1:
        """It goes into the log at this position, most likely, with a frame of at most `room` bytes. It counts as
        superseded until it is recorded."""
        value.announced = Block(room, self.budget)
        value.position = position
        value.number = self.count
        self.order.append(value)
        return 0

    cdef int record(self, Value value, const char* data, size_t size) except -1:
        """It goes into the log, where it was announced; its frame is copied."""
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
        """Something was recorded: keep no more than may wait for one outbox."""
        if self.size > self.max_backlog and self.behind:
            self.close_slowest()
        return 0

    cdef int retire(self, Value value) except -1:
        """Nobody gets it any more."""
        if value.frame is not None:
            value.frame = None
            self.size -= value.size
        return 0

    cdef size_t find(self, uint64_t position, uint64_t number) except? 0:
        """The index in `order` of the first that is at or behind this position of the log, and has this number or a
        greater one."""
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
        """Where `order[index]` begins in the log; `otherwise` behind the last."""
        return (<Value>self.order[index]).position if index < <size_t>len(self.order) else otherwise

    cdef uint64_t end_of(self, size_t index, uint64_t otherwise) except? 0:
        """Where it ends."""
        if index >= <size_t>len(self.order):
            return otherwise
        return (<Value>self.order[index]).position + (<Value>self.order[index]).size

    # ---- Who lags ------------------------------------------------------------------------------------------------

    cdef int begin(self, Backlog outbox, size_t index) except -1:
        """From `order[index]` on an outbox is passed by, if that is anything."""
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
        """Queue what an outbox lacks, no more once `most` bytes are; returns how many. When that is all, it lags no
        longer."""
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
            outbox.dropped += value.number - number
            number = value.number + 1
        if index == <size_t>len(self.order):
            self.end(outbox)
        else:
            self.behind[outbox] = number
        return pushed

    cdef int give_up(self, Backlog outbox) except -1:
        """What an outbox lacks will never come to it."""
        cdef uint64_t number = self.behind[outbox]
        outbox.dropped += self.count - number
        return 0

    cdef uint64_t lag(self, Backlog outbox) except? 0:
        """Bytes that an outbox lacks."""
        cdef size_t index
        if not outbox.lagging:
            return 0
        index = self.find(0, self.behind[outbox])
        if index == <size_t>len(self.order):
            return 0
        self.sum_up()
        return (<Value>self.order[index]).ahead

    cdef int sum_up(self) except -1:
        """Once for all who lag: thousands may be asked what they lack in one go, when the budget is used up. What is
        forgotten, be it superseded or the oldest, changes no sum."""
        cdef uint64_t size = 0
        cdef Value value
        cdef Py_ssize_t i = len(self.order)
        if not self.summed:
            while i:  # reversed() makes an object, and so might call whatever the collector does
                i -= 1
                value = self.order[i]
                if value.frame is not None:
                    size += value.size
                value.ahead = size
            self.summed = True
        return 0

    cdef int close_slowest(self) except -1:
        """Somebody may lack more than may wait for one: close those that do, and forget what nobody lacks."""
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

    # ---- What is kept --------------------------------------------------------------------------------------------

    cdef int round_over(self, uint64_t start) except -1:
        """What the log has before `start` is with everyone but those who lag."""
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
            except MemoryError:  # another round will see to it
                pass
        return 0

    cdef int forget_all(self) except -1:
        """Nobody lacks anything, nor will anyone."""
        self.newest.clear()
        self.order.clear()
        self.size = 0
        return 0

    cdef int forget_before(self, uint64_t number) except -1:
        """Forget what has a smaller number. The keys' own methods come last: they may raise."""
        cdef size_t index = self.find(0, number)
        cdef Value value
        forgotten = [value for value in self.order[:index] if value.frame is not None]
        del self.order[:index]
        for value in forgotten:
            self.retire(value)
        for value in forgotten:
            self.newest.pop(value.key, None)
        return 0
