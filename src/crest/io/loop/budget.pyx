"""The memory of all that waits, on all connections of one event loop, and its limit. What waits is what was sent and is
not taken by its peer, and what has come and is not handled (intake.pyx).

Memory is counted, not messages. A block of a broadcast's log counts once, as long as any outbox has a piece of it to
send. So does a large `str` or `bytes` that many connections wait to send. Messages that leave at once are not counted.
Blocks are, but they are allocated rarely. Everything else is counted when it has to wait.

Past the limit the slowest consumers go first, until a sixteenth of the limit is free. Those that are closed for their
slowness already come before those for which most waits. The loop does that at most once a turn, so never within a send
or a broadcast. What can leave at once leaves before.

The limit may be one for several processes. Those that have more than their share of it look regularly whether it has
become too much, as others may have taken more.

A consumer is an outbox or an `Intake` for which something waits. Its methods are called by name, through Python: that
is seldom, and the consumers' types are built on the types here.
"""

cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport UINT64_MAX, uint64_t, uintptr_t

import logging
from operator import methodcaller

from crest.io.loop.census cimport Census

logger = logging.getLogger("crest")

cdef double INTERVAL = 0.1      # seconds


@cython.final
cdef class Budget:
    """Counts the memory of what waits on one event loop, and bounds it.

    Args:
        loop: the event loop.
        limit: bytes; None for any number.
        flush: a function that sends what need not wait.
    """

    def __cinit__(self, loop not None, limit, flush not None):
        self.loop = loop
        self.flush = flush
        self.limit = UINT64_MAX if limit is None else limit
        self.behind = set()
        self.kept = {}

    cdef int take(self, uint64_t size) except -1:
        self.used += size
        if self.census is not None:
            self.census.note_waiting(self.used)
            if self.used > self.census.share(self.limit):
                self.watch()
        if self.used > self.limit:
            self.shed_soon()
        return 0

    cdef int give(self, uint64_t size) except -1:
        self.used -= size
        if self.census is not None:
            self.census.note_waiting(self.used)
        return 0

    cdef int shed_soon(self) except -1:
        if not self.scheduled:
            try:
                self.loop.call_soon(self._shed)
                self.scheduled = True
            except MemoryError:  # whatever is taken next asks again
                pass
        return 0

    # ---- A limit for several processes ---------------------------------------------------------------------------

    def share(self, Census census not None):
        """Have the limit hold for all processes of a census together. Nothing waits yet."""
        self.census = census

    cdef int watch(self) except -1:
        """Look now, and again as long as more than the share waits here, whether it is too much."""
        if self.used > self.census.allowed(self.limit, self.used):
            self.shed_soon()
        if not self.watching:
            try:
                self.loop.call_later(INTERVAL, self._watch)
                self.watching = True
            except MemoryError:  # whatever is taken next looks again
                pass
        return 0

    def _watch(self):
        self.watching = False
        if self.used > self.census.share(self.limit):
            self.watch()

    # ---- Shedding ------------------------------------------------------------------------------------------------

    cdef int fell_behind(self, object consumer) except -1:
        """Add a consumer for which something waits from now on."""
        self.behind.add(consumer)
        return 0

    cdef int caught_up(self, object consumer) except -1:
        self.behind.discard(consumer)
        return 0

    cdef Kept keep(self, object owner):
        """Return what the caller is to hold instead of a `str` or `bytes` that waits, so that it is counted once."""
        cdef object address = <uintptr_t><PyObject*>owner
        cdef object known = self.kept.get(address)
        cdef Kept kept
        if known is not None:
            return <Kept><PyObject*><uintptr_t>known
        kept = Kept.__new__(Kept)
        kept.size = (str if isinstance(owner, str) else bytes).__sizeof__(owner)  # UTF-8 that a `str` keeps included
        kept.owner = owner
        kept.address = address
        self.kept[address] = <uintptr_t><PyObject*>kept
        kept.budget = self
        self.take(kept.size)
        return kept

    def _shed(self):
        cdef uint64_t limit, before = self.used
        cdef Py_ssize_t shed, cut
        self.flush()
        self.scheduled = False
        limit = self.limit if self.census is None else self.census.allowed(self.limit, self.used)
        if self.used <= limit:
            return
        slowest = sorted(self.behind, key=methodcaller("_precedence"), reverse=True)
        shed = self.shed_until(limit - limit // 16, slowest, "_shed")
        cut = self.shed_until(limit, slowest, "_cut_off")  # their rests and close frames may be too much as well
        if shed:
            logger.warning("Messages that wait take %d bytes, max_backlog_total is %d: of %d slow connections %d are "
                           "closed", before, self.limit, len(slowest), max(shed, cut))

    cdef Py_ssize_t shed_until(self, uint64_t goal, list slowest, str how) except -1:
        """Have consumers give up what they hold until at most `goal` bytes are used; returns how many had to."""
        cdef Py_ssize_t shed = 0
        for consumer in slowest:
            if self.used <= goal:
                break
            shed += 1
            try:
                getattr(consumer, how)()
            except Exception:
                logger.exception("What waited for %r could not be shed", consumer)
        return shed


@cython.no_gc  # there is no cycle: its object is a str or bytes
@cython.final
cdef class Kept:
    """An immutable object that waits to be sent, or whose memory waits."""

    def __dealloc__(self):
        if self.budget is not None:
            del self.budget.kept[self.address]  # which needs no memory
            self.budget.give(self.size)
