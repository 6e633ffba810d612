"""The links of an exchange: sockets on the one side, the router on the other."""

cimport cython
from libc.stdint cimport uint32_t

from crest.cluster.link cimport Link, Owner
from crest.cluster.router cimport Port, Router
from crest.io.loop.clock cimport Deadline
from crest.io.loop.poller cimport CREST_READABLE, Pollable, Poller
from crest.io.loop.turn cimport Block, Turn

import logging

logger = logging.getLogger("crest")

cdef double PAUSE = 1               # seconds between two words about workers that do not keep up


@cython.final
cdef class Switch(Owner):
    """Owns the links of an exchange.

    Args:
        turn: of the loop, with a poller.
    """

    def __cinit__(self, Turn turn not None):
        self.turn = turn
        self.router = Router()
        self.ports = {}
        self.told = {}
        self.telling = Telling()
        self.telling.switch = self

    def add(self, int fd, uint32_t number, size_t queue):
        """Connect a worker.

        Args:
            fd: a stream socket that does not block; the link closes it, unless this raises.
            number: of the worker.
            queue: bytes that may wait for it.
        """
        cdef Link link = Link(self.turn, queue, number)
        cdef Port port = Port(number, link)
        self.ports[link] = port
        self.told[link] = 0
        try:
            self.router.connect(port)
            link.attach(self.turn.poller, fd, self)
        except BaseException:
            self.forget(link)
            raise

    cdef size_t received(self, Link link, Block block, const char* data, size_t size) except? 0:
        cdef Link each
        cdef size_t routed = self.router.receive(<Port>self.ports[link], block, data, size)
        if not self.due:
            for each in self.ports:
                if each.lost != <object>self.told[each]:
                    self.due = True
                    self.turn.clock.start(self.telling, PAUSE)
                    break
        return routed

    cdef int lost(self, Link link, object reason) except -1:
        cdef Port port = self.forget(link)
        if reason is not None:
            logger.error("The link to worker %d was cut: %s", port.number, reason)
        return 0

    cdef Port forget(self, Link link):
        """Let go of a link; returns its port."""
        cdef Port port = self.ports.pop(link)
        self.told.pop(link)
        if port in self.router.ports:
            self.router.disconnect(port)
        return port

    def tell(self):
        """Log how many messages were dropped for which workers since the last time."""
        cdef Link link
        self.due = False
        for link, port in self.ports.items():
            before, self.told[link] = self.told[link], link.lost
            if link.lost != before:
                logger.warning("Worker %d does not keep up: %d messages for it were dropped", port.number,
                               link.lost - before)


@cython.final
cdef class Telling(Deadline):
    """When a switch is to log what was dropped."""

    cpdef expired(self):
        self.switch.tell()


@cython.final
cdef class Control(Pollable):
    """The socket of the supervisor.

    Args:
        poller: that watches it.
        fd: the socket; its maker closes it.
        callback: is called when it can be read.
    """

    cdef object callback

    def __cinit__(self, Poller poller not None, int fd, callback not None):
        self.callback = callback
        self.fd = fd
        poller.keep(self)
        poller.watch(self, CREST_READABLE)

    cdef int ready(self, int events) except -1:
        self.callback()
        return 0

    cdef int abandoned(self) except -1:
        return 0

    cdef int disowned(self) except -1:
        return 0
