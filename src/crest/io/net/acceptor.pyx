"""Connections as they come in at one listening socket."""

cimport cython
from libc.errno cimport errno

import logging
import os

from crest.io.life.protocol cimport Protocol
from crest.io.loop.census cimport Census
from crest.io.loop.poller cimport CREST_READABLE, Pollable, Poller
from crest.io.loop.turn cimport Turn
from crest.io.net.preface cimport Lobby
from crest.io.net.stream cimport StreamTransport
from crest.io.syscalls cimport (
    CREST_BROKEN,
    CREST_REFUSED,
    crest_accept,
    crest_address,
    crest_close,
    crest_is_readable,
)

logger = logging.getLogger("crest")

cdef int ACCEPTED_AT_ONCE = 64  # then those that are open already have their turn
cdef double PAUSE = 1           # seconds without accepting, when the process or the system is at a limit
cdef double MOMENT = 0.01       # seconds: what is left to others waits for two of these if they do not take it


@cython.final
cdef class Acceptor(Pollable):
    """Accepts the connections of one socket, and gives each a `Protocol` and a transport.

    Args:
        poller: of the loop that serves them.
        fd: a socket that listens and does not block; its maker closes it, after `close`.
        turn, site: arguments of each `Protocol`.
        reception: decides about each connection before it has a protocol; None: there is nothing to decide.
        connector: makes transports of the event loop's; None: all are crest's own. For both see `Lobby`.
        census: of the processes that accept at this socket, too: connections are left to one that has fewer. None: this
            process is the only one.
    """

    cdef Poller poller
    cdef Turn turn
    cdef object site
    cdef Lobby lobby    # None: connections are served at once
    cdef Census census
    cdef object timer   # ends a pause
    cdef bint waits     # a connection was left to others, and they had not taken it when this looked last
    cdef bint takes     # ... and has waited for long enough

    def __cinit__(self, Poller poller not None, int fd, Turn turn not None, site, reception=None, connector=None,
                  Census census=None):
        self.poller = poller
        self.turn = turn
        self.site = site
        self.lobby = None if reception is None else Lobby(poller, turn, reception, connector)
        self.census = census
        self.fd = fd
        poller.keep(self)
        self._resume()

    def _resume(self):
        self.timer = None
        try:
            self.poller.watch(self, CREST_READABLE)
        except OSError as error:
            self.pause(error.strerror)

    cdef int pause(self, object reason) except -1:
        self.timer = self.poller.loop.call_later(PAUSE, self._resume)
        self.poller.watch(self, 0)
        logger.error("Connections cannot be accepted: %s. The next attempt is in %g s.", reason, PAUSE)
        return 0

    cdef int leave_to_others(self) except -1:
        """Accept nothing for a moment: other processes are to."""
        self.timer = self.poller.loop.call_later(MOMENT, self._look)
        self.poller.watch(self, 0)
        return 0

    def _look(self):
        """Go on to accept if it is this process's turn, or if nothing else takes what waits."""
        self.timer = None
        if not self.census.is_ahead():
            self.waits = False
            self._resume()
        elif not crest_is_readable(self.fd):
            self.waits = False
            self.leave_to_others()
        elif not self.waits:
            self.waits = True
            self.leave_to_others()
        else:
            self.waits = False
            self.takes = True
            self._resume()

    def close(self):
        """Accept no more, and cut off those that have no protocol yet. The kernel refuses the connections that it still
        holds, when the socket is closed."""
        if self.fd >= 0:
            self.poller.release(self)
            self.fd = -1
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if self.lobby is not None:
            self.lobby.close()

    cdef int abandoned(self) except -1:
        self.close()
        return 0

    cdef int disowned(self) except -1:
        self.fd = -1
        return 0

    cdef int ready(self, int events) except -1:
        cdef crest_address peer
        cdef int _i, fd
        for _i in range(ACCEPTED_AT_ONCE):
            if self.census is not None and not self.takes and self.census.is_ahead():
                return self.leave_to_others()
            fd = crest_accept(self.fd, &peer)
            if fd >= 0:
                self.accepted(fd, &peer)
                if self.fd < 0:  # closed by that
                    break
            elif fd == CREST_REFUSED:
                self.pause(os.strerror(errno))
                break
            elif fd != CREST_BROKEN:
                break
        self.takes = False
        return 0

    cdef int accepted(self, int fd, const crest_address* peer) except -1:
        cdef StreamTransport transport = None
        if self.lobby is not None:
            return self.lobby.enter(fd, peer)
        try:
            transport = StreamTransport(self.poller, Protocol(self.turn, self.site), fd)
            transport.peer = peer[0]
            transport.start()
        except BaseException:
            if transport is None:
                crest_close(fd)
            raise
        return 0
