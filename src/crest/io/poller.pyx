"""Which sockets of crest's own are ready, on an event loop that knows of one descriptor only.

A `Poller` is an epoll instance (or kqueue), which the loop watches like any other descriptor. When something in it is
ready, the loop calls back once, and every socket that is ready is served from here, without the loop's cost for each:
a handle, a context, two calls from C into Python, and more than a kilobyte of its transport for each connection.

What a `Pollable` does when it is ready is its own business.
"""

from cpython.exc cimport PyErr_SetFromErrno
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.ref cimport Py_DECREF, Py_INCREF

cdef extern from "net.h" nogil:
    void crest_close(int fd)


cdef class Pollable:
    """A descriptor that waits to be ready. It lives as long as it is watched for anything."""

    def __cinit__(self):
        self.fd = -1

    cdef int ready(self, int events) except -1:
        """It is ready: for some of the events that it is watched for, or it is broken. May be told in vain."""
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
        self.loop = loop
        self.fd = crest_poll_open()
        if self.fd < 0:
            PyErr_SetFromErrno(OSError)
        self.events = <crest_event*>PyMem_Malloc(CREST_EVENTS_A_CALL * sizeof(crest_event))
        if self.events == NULL:
            raise MemoryError
        loop.add_reader(self.fd, self._poll)

    def __dealloc__(self):
        PyMem_Free(self.events)
        if self.fd >= 0:
            crest_close(self.fd)

    def close(self):
        """The end; nothing may be watched any more."""
        if self.fd >= 0:
            self.loop.remove_reader(self.fd)
            crest_close(self.fd)
            self.fd = -1

    cdef int watch(self, Pollable pollable, int events) except -1:
        """Watch it for these events, and no others; 0: not at all."""
        cdef int i
        cdef int before = pollable.watched
        if events == before:
            return 0
        if crest_poll_change(self.fd, pollable.fd, before, events, <void*>pollable) < 0:
            PyErr_SetFromErrno(OSError)
        pollable.watched = <uint8_t>events
        if not before:
            Py_INCREF(pollable)
        elif not events:
            for i in range(self.told):
                if self.events[i].token == <void*>pollable:
                    self.events[i].token = NULL
            Py_DECREF(pollable)
        return 0

    def _poll(self):
        cdef int i = 0
        cdef Pollable pollable
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
