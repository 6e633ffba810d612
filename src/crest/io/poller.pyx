"""Which sockets of crest's own are ready, on an event loop that knows of one descriptor only.

A `Poller` is an epoll instance (or kqueue), which the loop watches like any other descriptor. When something in it is
ready, the loop calls back once, and every socket that is ready is served from here, without the loop's cost for each:
a handle, a context, two calls from C into Python, and more than a kilobyte of its transport for each connection.

What a `Pollable` does when it is ready is its own business. What must hold:

- The kernel knows a pollable by its address. So it is kept, from `keep` to `release`, and released before its
  descriptor is closed: the kernel forgets a descriptor by itself only when no process that was forked has it either.
- `watched` is what the kernel was told last, and nobody is called for anything else. What was found ready, and then is
  not watched any more because somebody served before it has closed it, is struck from the list that is being told.
- To watch for less than before never fails; to watch for more may, when the kernel has no memory.
- A connection that is gone is reported as whatever is watched for. So a pollable that wants to hear of nothing, of that
  neither, watches for nothing; one that is not to be read, and wants to, watches for CREST_FINISHED or CREST_GONE.
"""

cimport cython
from cpython.exc cimport PyErr_SetFromErrno, PyErr_WarnEx
from cpython.mem cimport PyMem_Free, PyMem_Malloc

import os

cdef extern from "net.h" nogil:
    void crest_close(int fd)


cdef class Pollable:
    """A descriptor that waits to be ready."""

    def __cinit__(self):
        self.fd = -1

    cdef int ready(self, int events) except -1:
        """It is ready: for some of the events that it is watched for, or it is broken. May be told in vain."""
        raise NotImplementedError

    cdef int abandoned(self) except -1:
        """The poller has come to its end before this did. Most often so has the loop: it was closed."""
        raise NotImplementedError

    cdef int disowned(self) except -1:
        """This is a process that was forked: the descriptor is that of the process before, and nothing may be sent."""
        raise NotImplementedError


cdef class Poller:
    """Watches descriptors.

    Args:
        loop: the running event loop.

    Raises:
        OSError: the process has no descriptor left.

    Attributes:
        exists: whether there is one on this platform; on Windows there is not.
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
        """The end; what is still kept is abandoned."""
        if self.fd >= 0:
            self.loop.remove_reader(self.fd)
            self.end()

    cdef int keep(self, Pollable pollable) except -1:
        """Keep it until it is released; it may be watched from now on."""
        while len(self.kept) <= pollable.fd:
            self.kept.append(None)
        self.kept[pollable.fd] = pollable
        return 0

    cdef int watch(self, Pollable pollable, int events) except -1:
        """Watch it for these events, and no others; 0: not at all.

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
        """Watch it no more, nor keep it; its descriptor may be closed."""
        if self.fd >= 0:
            self.watch(pollable, 0)
            self.kept[pollable.fd] = None
        return 0

    cdef int poll(self) except -1:
        """Serve whom the kernel finds ready."""
        cdef int i = 0
        cdef Pollable pollable
        if self.fd < 0:
            return 0
        self.told = crest_poll_ready(self.fd, self.events)
        if self.told < 0:
            self.told = 0
            PyErr_SetFromErrno(OSError)
        try:
            while i < self.told:
                if self.events[i].token != NULL:
                    pollable = <Pollable>self.events[i].token
                    if self.events[i].ready & pollable.watched:
                        pollable.ready(self.events[i].ready & pollable.watched)
                i += 1
        finally:
            self.told = 0
        return 0

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
        """Let go of everything, in a process that was forked. The kernel's list of descriptors is not touched: both
        processes have the same."""
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
    """What the loop calls. Nobody else has it: so it goes when the loop is closed, and what is still kept then would
    never come to its end."""

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
