"""As much of an event loop as the exchange, its turn, its clock and its poller need: one poller, and one timer.

An event loop of asyncio's would cost each message two more calls of the kernel's (decision 0022). This one is compiled,
as it turns once for each message that comes alone.
"""

cimport cython
from libc.stdint cimport uint64_t

from crest.io.loop.poller cimport Poller
from crest.io.syscalls cimport crest_now

cdef extern from "nap.h" nogil:
    void crest_nap(int microseconds)
    void crest_nap_sharply()

cdef enum:
    NAP = 80                    # microseconds: less than the 100 that a message may be late by


@cython.final
cdef class Timer:
    """A call that is to come."""

    cdef uint64_t when          # nanoseconds of the monotonic clock
    cdef object callback
    cdef bint cancelled

    def cancel(self):
        self.cancelled = True


@cython.final
cdef class Loop:
    """Waits for the sockets of a poller.

    Args:
        dense: nanoseconds; sockets that are ready again before that are waited for in naps. To wake a process costs the
            one that sends to it some microseconds. A process that naps need not be woken. So many messages that come
            one by one cost all processes half, and are late by a nap at most.
    """

    cdef list soon
    cdef Timer timer
    cdef uint64_t dense
    cdef uint64_t woken         # when something was ready, at last; nanoseconds
    cdef readonly bint naps     # it does so before it looks again

    def __cinit__(self, uint64_t dense=20_000):
        self.dense = dense
        self.soon = []
        crest_nap_sharply()

    def call_soon(self, callback, **_):
        """Have a function called when what is ready has been served."""
        self.soon.append(callback)

    def call_later(self, delay, callback):
        """Have a clock called; it has one timer at a time."""
        cdef Timer timer = Timer()
        timer.when = crest_now() + <uint64_t>(delay * 1e9)
        timer.callback = callback
        self.timer = timer
        return timer

    def add_reader(self, fd, callback):
        """Take note of the poller, which `turn` asks."""

    def remove_reader(self, fd):
        """Forget the poller."""

    def is_closed(self):
        return False

    cdef int wait(self, Poller poller, int milliseconds) except -1:
        """Serve what is ready, and wait for that."""
        cdef uint64_t now
        if self.naps:
            with nogil:
                crest_nap(NAP)
            self.naps = poller.serve(0) != 0
            return 0
        poller.serve(milliseconds)
        now = crest_now()
        self.naps = now - self.woken < self.dense
        self.woken = now
        return 0

    def turn(self, Poller poller not None):
        """Wait until something is to be done, and do all of it."""
        cdef Timer timer = self.timer
        cdef uint64_t now
        cdef int wait = 0 if self.soon else -1
        if timer is not None and wait:
            now = crest_now()
            wait = 0 if timer.when <= now else <int>((timer.when - now) // 1000000) + 1
        try:
            self.wait(poller, wait)
        finally:
            soon, self.soon = self.soon, []
            for callback in soon:
                callback()
        timer = self.timer
        if timer is not None and (timer.cancelled or timer.when <= crest_now()):
            self.timer = None
            if not timer.cancelled:
                timer.callback()
