"""Deadlines of connections: as many as there are connections, on one timer of the loop.

A connection is a `Deadline` itself. It is linked into a ring with all deadlines of the same duration: within a ring,
the one that began first is due first. To start or to cancel one takes a few instructions and no memory, where a timer
of the loop takes thousands (benches/paths.py, in decision 0008). Nearly all are cancelled. The timer is set for the
earliest deadline. If that is cancelled the timer stays, and fires in vain once.

A deadline is never early. On a loop that is not busy it is late by TICK at most: deadlines that fall due within a tick
are served together, in no order.
"""

cimport cython
from cpython.object cimport PyObject
from libc.math cimport INFINITY

from crest.io.syscalls cimport CREST_MONOTONIC, crest_now

import logging
from time import monotonic

logger = logging.getLogger("crest")

cdef double TICK = 0.05             # seconds
cdef double ROUNDING = 0.001        # seconds: uvloop's timers count milliseconds, and round down as well as up
cdef double AGAIN = 1               # second after which a deadline that had no memory for its work expires again


cdef class Deadline:
    """Something that expires at a time that it is given. It has one time at most."""

    def __dealloc__(self):
        unlink(self)

    cpdef expired(self):
        """Do what is due: the time is over."""
        raise NotImplementedError


@cython.final
cdef class Ring(Deadline):
    """The deadlines of one duration. The ring itself stands between the last and the first, and has no time."""

    def __cinit__(self):
        self.previous = self.following = <PyObject*>self

    def __dealloc__(self):
        while self.following != <PyObject*>self:
            unlink(<Deadline>self.following)

    cdef double earliest(self) noexcept:
        if self.following == <PyObject*>self:
            return INFINITY
        return (<Deadline>self.following).due


@cython.final
cdef class Clock:
    """The deadlines of one event loop.

    Args:
        loop: the event loop.
        time: a function that returns seconds, and never goes back; by default the system's monotonic clock. It is not
            `loop.time`: uvloop's stands still during a turn, so a deadline that a slow handler starts would be early.
    """

    def __cinit__(self, loop not None, time=None):
        self.loop = loop
        self.time = monotonic if time is None and not CREST_MONOTONIC else time
        self.rings = {}
        self.again = Ring()
        self.timer_due = INFINITY

    cdef double now(self) except? -1:
        """Return the time, in seconds."""
        return crest_now() * 1e-9 if self.time is None else self.time()

    cpdef start(self, Deadline deadline, double seconds):
        """Have `deadline` expire in so many seconds, in place of any time that it was given before."""
        cdef double now = self.now()
        cdef Ring ring = self.ring_of(seconds)
        if now + seconds < self.timer_due:
            self.set_timer(now + seconds, now)
        unlink(deadline)
        deadline.due = now + seconds
        link(deadline, ring)

    cdef Ring ring_of(self, double seconds):
        cdef Ring ring = self.rings.get(seconds)
        if ring is None:
            ring = Ring()
            self.rings[seconds] = ring
        return ring

    cpdef cancel(self, Deadline deadline):
        """Have `deadline` not expire; no-op when it does not run."""
        unlink(deadline)

    def stop(self):
        """Forget all deadlines, and leave no timer with the loop: none of them matters any more."""
        self.rings.clear()
        self.again = Ring()
        self.set_timer(INFINITY, 0)

    def pending(self):
        """List the seconds to each deadline, the nearest first."""
        cdef Ring ring
        cdef PyObject* each
        cdef double now = self.now()
        found = []
        for ring in [self.again, *self.rings.values()]:
            each = ring.following
            while each != <PyObject*>ring:
                found.append((<Deadline>each).due - now)
                each = (<Deadline>each).following
        return sorted(found)

    # ---- The loop's timer ----------------------------------------------------------------------------------------

    cdef int set_timer(self, double due, double now) except -1:
        cdef object timer = None if due == INFINITY else self.loop.call_later(due - now + ROUNDING, self.run)
        timer, self.timer = self.timer, timer
        self.timer_due = due
        if timer is not None:
            timer.cancel()
        return 0

    def run(self):
        """Serve what is due, as the timer has fired, and set the timer again if more is to come."""
        cdef double now = self.now()
        if self.timer is not None:
            self.timer.cancel()  # it may not be the one that fired
            self.timer = None
        self.timer_due = -INFINITY  # deadlines that are started meanwhile set no timer: go_on() looks for them
        try:
            self.expire(now)
        finally:
            self.timer_due = INFINITY  # if there is no memory for a timer, the next start() sets one
            go_on(self, now)

    cdef int expire(self, double now) except -1:
        cdef Ring ring
        cdef Deadline deadline
        for ring in [self.again, *self.rings.values()]:
            while ring.earliest() <= now:
                deadline = <Deadline>ring.following
                unlink(deadline)
                try:
                    deadline.expired()
                except Exception as error:
                    if isinstance(error, MemoryError) and deadline.following == NULL:
                        deadline.due = now + AGAIN
                        link(deadline, self.again)
                    logger.exception("What a deadline had to do failed")
        return 0

    cdef double earliest(self) except? -1:
        """Return when a deadline is due next, and forget the rings that are empty."""
        cdef Ring ring
        cdef double found = self.again.earliest(), due
        for seconds, ring in list(self.rings.items()):
            due = ring.earliest()
            if due == INFINITY:
                del self.rings[seconds]
            else:
                found = min(found, due)
        return found


cdef int go_on(Clock clock, double now) except -1:
    """Set the timer for what is due next. Without memory, try again at once, TRIES times in all."""
    cdef int tries
    for tries in range(TRIES, 0, -1):
        try:
            clock.set_timer(max(clock.earliest(), now + TICK), now)
            break
        except MemoryError:
            if tries == 1:
                raise
    return 0


cdef inline void link(Deadline deadline, Ring ring) noexcept:
    """Put a deadline last into a ring."""
    deadline.previous = ring.previous
    deadline.following = <PyObject*>ring
    (<Deadline>ring.previous).following = <PyObject*>deadline
    ring.previous = <PyObject*>deadline


cdef inline void unlink(Deadline deadline) noexcept:
    """Take a deadline out of its ring, if it is in one."""
    if deadline.following != NULL:
        (<Deadline>deadline.previous).following = deadline.following
        (<Deadline>deadline.following).previous = deadline.previous
        deadline.previous = deadline.following = NULL
