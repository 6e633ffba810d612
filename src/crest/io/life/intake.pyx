"""The events of one connection that wait for their handlers, and the memory of all that has come and waits.

The peer decides how much comes, and a `str` with one emoji takes four bytes a character. So what waits counts in the
loop's budget by its size in memory, not by its size on the wire. Once a message is handed to its handler it belongs to
the handler, and no longer counts.

A message that is handled at once never meets an `Intake`. Like an outbox it is a consumer that the budget asks to give
up what waits. Its `Host` does that, for the host knows what else has come.

What must hold: it is among the budget's consumers exactly while `total` is not 0, and each event has a size.
"""

from cpython.bytes cimport PyBytes_CheckExact
from libc.stdint cimport uint64_t

from collections import deque

from crest.cpython cimport (
    CREST_ASCII,
    CREST_BYTES,
    CREST_UNICODE,
    PyUnicode_CheckExact,
    PyUnicode_GET_LENGTH,
    PyUnicode_IS_ASCII,
    PyUnicode_KIND,
)
from crest.io.loop.budget cimport Budget

cdef uint64_t EVENT = 128       # bytes of the tuple, its place in the deque, and its size as an int


cdef uint64_t size_of(object payload) noexcept:
    """Return the bytes of memory that a text or binary message takes; 0 for anything else."""
    if PyBytes_CheckExact(payload):
        return CREST_BYTES + len(<bytes>payload)
    if PyUnicode_CheckExact(payload):  # no ErrorText
        if PyUnicode_IS_ASCII(payload):
            return CREST_ASCII + PyUnicode_GET_LENGTH(payload) + 1
        return CREST_UNICODE + <uint64_t>PyUnicode_KIND(payload) * (PyUnicode_GET_LENGTH(payload) + 1)
    return 0


cdef class Intake:
    """Holds what has come on one connection and is not handled.

    Args:
        budget: of its loop.
        host: The connection, which gives up what is held when the budget is exceeded.
    """

    def __cinit__(self, Budget budget not None, Host host not None):
        self.budget = budget
        self.host = host

    cdef int hold(self, int kind, uint64_t size) except -1:
        """Hold `size` bytes of this kind from now on, in place of those before."""
        cdef uint64_t before = self.sizes[kind]
        if size == before:
            return 0
        if not self.total:
            self.budget.fell_behind(self)
        self.sizes[kind] = size
        self.total += size - before
        if size > before:
            self.budget.take(size - before)
        else:
            self.budget.give(before - size)
        if not self.total:
            self.budget.caught_up(self)
        return 0

    # ---- Events --------------------------------------------------------------------------------------------------

    cdef int append(self, int event, object first, object second) except -1:
        """Have an event wait. MemoryError: it does not."""
        cdef uint64_t size = EVENT + size_of(first)
        cdef tuple entry = (event, first, second, size)
        if self.events is None:
            self.events = deque()
        self.hold(EVENTS, self.sizes[EVENTS] + size)
        try:
            self.events.append(entry)
            self.count += 1
        except MemoryError:
            self.hold(EVENTS, self.sizes[EVENTS] - size)
            raise
        return 0

    cdef tuple pop(self):
        """Take out and return the event that has waited longest. At least one must wait."""
        cdef tuple found = self.events.popleft()
        self.count -= 1
        self.hold(EVENTS, self.sizes[EVENTS] - <uint64_t>found[3])
        return found

    cdef bint drop_messages(self, object instead) except -1:
        """Drop the messages that wait, which are the events with a payload. False if there are none.

        Args:
            instead: (event, argument, argument), to wait in place of the first message; None: nothing does.
        """
        cdef list kept = [], dropped = []
        for each in self.events or ():
            if size_of(each[1]):
                if instead is not None and not dropped:
                    kept.append((*instead, EVENT))
                dropped.append(each)
            else:
                kept.append(each)
        if not dropped:
            return False
        self.events = deque(kept)
        self.count = <uint64_t>len(kept)
        self.hold(EVENTS, sum([each[3] for each in kept]))
        return True

    cdef int clear(self) except -1:
        """Hold nothing any more."""
        cdef int kind
        self.events = None
        self.count = 0
        for kind in range(KINDS):
            self.hold(kind, 0)
        return 0

    # ---- What the budget asks for --------------------------------------------------------------------------------

    def _precedence(self):
        """Return a sort key, as `Backlog._precedence` does: the budget sheds the greatest first."""
        return False, self.total

    def _shed(self):
        """Give up what is held, and end the connection."""
        if not self.total:
            return  # all was handled since the budget began to shed
        self.host.give_up(f"too much of the peer's waits to be handled: it takes {self.total} bytes of memory, and "
                          f"that of all together more than max_backlog_total, {self.budget.limit} bytes")

    def _cut_off(self):
        """Cut the connection; what its transport held goes with it."""
        self.host.abort()
