"""Connections as they come in at one listening socket."""

cimport cython
from libc.errno cimport ECONNABORTED, EINTR, EPERM, EPROTO, errno

import logging
import os

from crest.io.outbox cimport CREST_WOULD_BLOCK
from crest.io.poller cimport CREST_READABLE, Pollable, Poller
from crest.io.protocol cimport Protocol
from crest.io.stream cimport StreamTransport, crest_address
from crest.io.turn cimport Turn

cdef extern from "net.h" nogil:
    int crest_accept(int fd, crest_address* peer)

logger = logging.getLogger("crest")

cdef int ACCEPTED_AT_ONCE = 64  # then those that are open already have their turn
cdef double PAUSE = 1           # seconds without accepting, when the process or the system is at a limit


@cython.final
cdef class Acceptor(Pollable):
    """Accepts the connections of one socket, and gives each a `Protocol` and a `StreamTransport`.

    Args:
        poller: of the loop that serves them.
        fd: a socket that listens and does not block; whoever made it closes it, after `close`.
        turn, site: as for a `Protocol`.
    """

    cdef Poller poller
    cdef Turn turn
    cdef object site
    cdef object timer   # ends a pause

    def __cinit__(self, Poller poller not None, int fd, Turn turn not None, site):
        self.poller = poller
        self.fd = fd
        self.turn = turn
        self.site = site
        self._resume()

    def _resume(self):
        self.timer = None
        self.poller.watch(self, CREST_READABLE)

    def close(self):
        """Accept no more. Connections that the kernel still holds are its to refuse, when the socket is closed."""
        self.poller.watch(self, 0)
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    cdef int ready(self, int events) except -1:
        cdef crest_address peer
        cdef StreamTransport transport
        cdef int _, fd
        for _ in range(ACCEPTED_AT_ONCE):
            fd = crest_accept(self.fd, &peer)
            if fd == CREST_WOULD_BLOCK:
                break
            if fd >= 0:
                transport = StreamTransport(self.poller, Protocol(self.turn, self.site), fd)
                transport.peer = peer
                try:
                    transport.start()
                except OSError as error:
                    transport.abort()
                    logger.error("A connection could not be watched: %s", error)
            elif errno not in (ECONNABORTED, EINTR, EPROTO, EPERM):  # those say that this one is gone already
                self.pause(errno)
                break
        return 0

    cdef int pause(self, int error) except -1:
        logger.error("Connections cannot be accepted: %s. The next attempt is in %g s.", os.strerror(error), PAUSE)
        self.poller.watch(self, 0)
        self.timer = self.poller.loop.call_later(PAUSE, self._resume)
        return 0
