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

from collections import OrderedDict

from crest.io.loop.budget cimport Budget
from crest.io.loop.turn cimport Block
from crest.io.out.backlog cimport Backlog

cdef size_t COPIED = 8192       # bytes: a frame up to this is copied into a queue, a larger one is referenced
cdef size_t LEAST_ORDER = 64    # values, superseded ones among them, up to which `order` is not cleaned up


@cython.final
cdef class Value:
    """A message with a key, framed."""


cdef size_t push_value(Backlog outbox, Value value) except 0:
    """Queue a value's frame; returns its bytes."""
    if value.size <= COPIED:
        outbox.push_copy(value.frame.data, value.size, NULL, 0)
    else:
        outbox.push(value.frame, value.frame.data, value.size)
    return value.size


@cython.final
cdef class Newest:
    """The newest messages that one outbox lacks of those that not all get."""

    def __cinit__(self):
        self.values = OrderedDict()

    cdef int put(self, Value value, Value older) except -1:
        """Keep a message, as the last, in place of the one with its key, if any. The key's own methods are called here,
        and may raise: then either nothing has changed, or only the order."""
        if older is not None:
            self.values.move_to_end(value.key)
        self.values[value.key] = value
        self.size += value.size - (0 if older is None else older.size)
        return 0

    cdef Value first(self):
        """Return the message that has waited longest, or None."""
        for value in self.values.values():
            return value
        return None

    cdef int forget_first(self) except -1:
        cdef Value value
        _, value = self.values.popitem(False)
        self.size -= value.size
        return 0

    cdef size_t count(self) except? 0:
        return len(self.values)


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
        self.own = {}

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

    cdef int record(self, Value value, const char* data, size_t size, tuple excluded) except -1:
        """Copy the message's frame: it goes into the log, where it was announced. Outboxes that are `excluded` are not
        to get it; None: there are none."""
        value.frame, value.announced = value.announced, None
        memcpy(value.frame.data, data, size)
        value.size = size
        value.excluded = excluded
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
        """Have an outbox lag from `order[index]` on; no-op if it does already, or there is no such value."""
        if (not outbox.lagging or outbox not in self.behind) and index < <size_t>len(self.order):
            self.behind[outbox] = (<Value>self.order[index]).number
            outbox.lagging = True
        return 0

    cdef int end(self, Backlog outbox) except -1:
        if outbox.lagging:
            outbox.lagging = False
            self.behind.pop(outbox, None)
            self.own.pop(outbox, None)
        return 0

    cdef size_t refill(self, Backlog outbox, size_t most) except? 0:
        """Queue what an outbox lacks, until that is `most` bytes or more; returns how many. An outbox that has got all
        lags no longer."""
        cdef size_t pushed = 0, index
        cdef Newest own = self.own.get(outbox)
        cdef Value value
        while outbox.lagging and pushed < most:
            index = self.next_for(outbox)
            value = None if own is None else own.first()
            if value is not None and value.number <= self.number_of(index):
                pushed += push_value(outbox, value)
                own.forget_first()
            elif index < <size_t>len(self.order):
                value = self.order[index]
                pushed += push_value(outbox, value)
                outbox.lose(value.number - <uint64_t>self.behind[outbox])
                self.behind[outbox] = value.number + 1
            else:
                self.end(outbox)
        return pushed

    cdef size_t next_for(self, Backlog outbox) except? 0:
        """Find the next value in `order` that an outbox lacks; returns its index, or how many there are."""
        cdef size_t index = len(self.order)
        cdef object number = self.behind.get(outbox)
        cdef Value value
        if number is not None:
            index = self.find(0, number)
            while index < <size_t>len(self.order):
                value = self.order[index]
                index += 1
                if value.frame is None:
                    continue
                if value.excluded is None or outbox not in value.excluded:
                    return index - 1
                outbox.lose(value.number - <uint64_t>self.behind[outbox])
                self.behind[outbox] = value.number + 1
        return index

    cdef uint64_t number_of(self, size_t index) except? 0:
        """Return the number of `order[index]`; the greatest of all if there is none."""
        return (<Value>self.order[index]).number if index < <size_t>len(self.order) else UINT64_MAX

    cdef bint keep(self, Backlog outbox, object place, object key, Block frame) except -1:
        """Keep a message with a key that only some outboxes get, for one that is blocked or lags. False: it is too
        much, and the policy has decided about it. The key's own methods are called, and may raise.

        Args:
            place: what a message of the same key must have in common to be superseded.
            frame: a block that has the message's frame and nothing else.
        """
        cdef Newest own = self.own.get(outbox)
        cdef Value value = Value.__new__(Value), older
        value.frame = frame
        value.size = frame.used
        value.number = self.count
        value.key = (place, key)
        older = None if own is None else own.values.get(value.key)
        if (0 if own is None else own.size) - (0 if older is None else older.size) + frame.used > outbox.limit():
            outbox.overflow(1)
            return False
        if own is None:
            own = self.own[outbox] = Newest()
        outbox.lagging = True
        own.put(value, older)
        outbox.lose(older is not None)
        return True

    cdef int give_up(self, Backlog outbox) except -1:
        """Count what an outbox lacks as dropped: it will never get it."""
        cdef Newest own = self.own.get(outbox)
        outbox.lose(self.count - <uint64_t>self.behind.get(outbox, self.count))
        outbox.lose(0 if own is None else own.count())
        return 0

    cdef uint64_t lag(self, Backlog outbox) except? 0:
        """Count the bytes that an outbox lacks."""
        cdef Newest own
        cdef size_t index
        cdef uint64_t size = 0
        if outbox.lagging:
            own = self.own.get(outbox)
            size = 0 if own is None else own.size
            index = self.find(0, self.behind.get(outbox, self.count))
            if index < <size_t>len(self.order):
                self.sum_up()
                size += (<Value>self.order[index]).ahead
        return size

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
