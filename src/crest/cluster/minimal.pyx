"""As much of an event loop as the exchange, its turn, its clock and its poller need: one poller, and one timer.

An event loop of asyncio's would cost each message two more calls of the kernel's (decision 0022). This one is compiled,
as it turns once for each message that comes alone.
"""

cimport cython
from libc.stdint cimport uint64_t

from crest.io.loop.poller cimport Poller
from crest.io.syscalls cimport crest_now


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
    """Waits for the sockets of a poller."""

    cdef list soon
    cdef Timer timer

    def __cinit__(self):
        self.soon = []

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

    def turn(self, Poller poller not None):
        """Wait until something is to be done, and do all of it."""
        cdef Timer timer = self.timer
        cdef uint64_t now
        cdef int wait = 0 if self.soon else -1
        if timer is not None and wait:
            now = crest_now()
            wait = 0 if timer.when <= now else <int>((timer.when - now) // 1000000) + 1
        try:
            poller.serve(wait)
        finally:
            soon, self.soon = self.soon, []
            for callback in soon:
                callback()
        timer = self.timer
        if timer is not None and (timer.cancelled or timer.when <= crest_now()):
            self.timer = None
            if not timer.cancelled:
                timer.callback()
