"""Readiness of crest's own sockets, on an event loop that knows of one descriptor only.

A `Poller` is an epoll instance (or kqueue), which the loop watches like any other descriptor. When something in it is
ready, the loop calls back once, and every socket that is ready is served from here. That saves what the loop would cost
for each: a handle, a context, two calls from C into Python, and more than a kilobyte of its transport for each
connection (decision 0001).

What a `Pollable` does when it is ready is its own business. What must hold:

- The kernel knows a pollable by its address. So it is kept, from `keep` to `release`, and released before its
  descriptor is closed. The kernel forgets a descriptor by itself only when no forked process has it either.
- `watched` is what the kernel was told last. A pollable is called for nothing else. One that was found ready may be
  closed by one that is served before it. Then it is not watched any more, and is struck from the list that is being
  told.
- To watch for less than before never fails; to watch for more may, when the kernel has no memory.
- A connection that is gone is reported as all events that are watched for. A pollable that is not to hear even of that
  watches for nothing. One that is not read, and is to hear of it, watches for CREST_FINISHED or CREST_GONE.
"""

cimport cython
from cpython.exc cimport PyErr_SetFromErrno, PyErr_WarnEx
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.stdint cimport uint8_t, uint64_t

from crest.io.syscalls cimport crest_close, crest_now

import os

cdef uint64_t A_WHILE = 1_000_000   # nanoseconds: as the loop's timers may be late by


cdef class Pollable:
    """A descriptor that waits to be ready."""

    def __cinit__(self):
        self.fd = -1

    cdef int ready(self, int events) except -1:
        """Serve the descriptor, which is ready for `events`, a part of those that are watched, or is broken. May be
        called in vain."""
        raise NotImplementedError

    cdef int abandoned(self) except -1:
        """Come to an end: the poller has ended first. Most often the loop has ended, too: it was closed."""
        raise NotImplementedError

    cdef int disowned(self) except -1:
        """Let go of the descriptor, without sending anything: this is a forked process, and its parent uses it."""
        raise NotImplementedError


cdef class Poller:
    """Watches descriptors.

    Args:
        loop: the running event loop.

    Raises:
        OSError: the process has no descriptor left.

    Attributes:
        exists: True if this platform has pollers; Windows has none.
    """

    exists = CREST_POLL

    def __cinit__(self, loop not None):
        self.fd = -1
        self.loop = loop
        self.kept = []
        self.events = <crest_event*>PyMem_Malloc(CREST_EVENTS_A_CALL * sizeof(crest_event))
        if self.events == NULL:
            raise MemoryError
        self.fd = crest_poll_open()
        if self.fd < 0:
            PyErr_SetFromErrno(OSError)
        loop.add_reader(self.fd, Callback(self).run)
        pollers.append(self)

    def __dealloc__(self):
        if self.events != NULL and self.fd >= 0:  # without events, arguments were wrong, and nothing was begun
            crest_close(self.fd)
        PyMem_Free(self.events)

    def close(self):
        """End the poller, and abandon the pollables that are still kept."""
        if self.fd >= 0:
            self.loop.remove_reader(self.fd)
            self.end()

    cdef int keep(self, Pollable pollable) except -1:
        """Keep a pollable until it is released. It may be watched from now on."""
        while len(self.kept) <= pollable.fd:
            self.kept.append(None)
        self.kept[pollable.fd] = pollable
        return 0

    cdef int watch(self, Pollable pollable, int events) except -1:
        """Watch a pollable for these events, and no others; 0: not at all.

        Raises:
            OSError: the kernel has no memory to watch it for more than before.
        """
        cdef int i
        if events == pollable.watched:
            return 0
        if crest_poll_change(self.fd, pollable.fd, pollable.watched, events, <void*>pollable) < 0:
            PyErr_SetFromErrno(OSError)
        pollable.watched = <uint8_t>events
        if not events:
            for i in range(self.told):
                if self.events[i].token == <void*>pollable:
                    self.events[i].token = NULL
        return 0

    cdef int release(self, Pollable pollable) except -1:
        """Neither watch nor keep a pollable any more. Its descriptor may be closed from now on."""
        if self.fd >= 0:
            self.watch(pollable, 0)
            self.kept[pollable.fd] = None
        return 0

    cdef int poll(self) except -1:
        """Serve the pollables that the kernel finds ready. If they are too many for one call of the kernel's, go on for
        a while: what is sent to one peer within a turn leaves together."""
        cdef uint64_t enough = 0
        while self.serve(0) == CREST_EVENTS_A_CALL:
            if not enough:
                enough = crest_now() + A_WHILE
            elif crest_now() >= enough:
                break
        return 0

    cdef int serve(self, int milliseconds) except -1:
        """Serve the pollables that one call of the kernel's finds ready. Returns how many it found.

        Args:
            milliseconds: to wait at most; -1: any time. For a process that has no other loop."""
        cdef int i = 0, found
        cdef Pollable pollable
        if self.fd < 0:
            return 0
        if milliseconds:
            with nogil:
                self.told = crest_poll_ready(self.fd, self.events, milliseconds)
        else:
            self.told = crest_poll_ready(self.fd, self.events, 0)
        if self.told < 0:
            self.told = 0
            PyErr_SetFromErrno(OSError)
        found = self.told
        try:
            while i < self.told:
                if self.events[i].token != NULL:
                    pollable = <Pollable>self.events[i].token
                    if self.events[i].ready & pollable.watched:
                        pollable.ready(self.events[i].ready & pollable.watched)
                i += 1
        finally:
            self.told = 0
        return found

    cdef int end(self) except -1:
        cdef Pollable pollable
        kept, self.kept = self.kept, []
        crest_close(self.fd)
        self.fd = -1
        self.told = 0
        if self in pollers:  # the loop may have refused it
            pollers.remove(self)
        for pollable in kept:
            if pollable is not None:
                pollable.abandoned()
        return 0

    cdef int disown(self) except -1:
        """Let go of everything, in a forked process. The kernel's list of descriptors is not changed: the parent has
        the same list."""
        cdef Pollable pollable
        crest_close(self.fd)
        self.fd = -1
        self.told = 0
        for pollable in self.kept:
            if pollable is not None:
                pollable.disowned()
        self.kept = []
        return 0


cdef list pollers = []  # that have not ended


def _disown_all():
    cdef Poller poller
    for poller in pollers:
        poller.disown()
    pollers.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_disown_all)


@cython.final
cdef class Callback:
    """The loop's callback for a poller. Only the loop holds it, so it goes when the loop is closed. It then ends the
    pollables that are still kept, which would else never come to their end."""

    cdef Poller poller

    def __cinit__(self, Poller poller not None):
        self.poller = poller

    def run(self):
        self.poller.poll()

    def __del__(self):
        cdef Poller poller = self.poller
        if poller.fd >= 0 and poller.loop.is_closed():
            forgotten = any(poller.kept)
            poller.end()
            if forgotten:
                PyErr_WarnEx(ResourceWarning, "an event loop was closed with sockets of crest's in use", 1)
