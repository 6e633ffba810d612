"""The connections of one listener, WebSockets or not, while they exist or their handlers run."""

cimport cython

from crest.io.life.protocol cimport NO_SLOT, Protocol
from crest.io.loop.lists cimport drop_last


@cython.final
cdef class Roster:
    """Knows each connection by its slot in a list: a set would be four times as large."""

    def __cinit__(self):
        self.protocols = []

    def add(self, Protocol protocol not None):
        """List a connection. MemoryError: it is not listed."""
        self.protocols.append(protocol)
        protocol.slot = len(self.protocols) - 1
        if self.census is not None:
            self.census.note(len(self.protocols))

    def remove(self, Protocol protocol not None):
        """List a connection no longer; no-op if it is not listed. This needs no memory."""
        cdef Protocol last
        if protocol.slot == NO_SLOT:
            return
        last = self.protocols[len(self.protocols) - 1]
        self.protocols[protocol.slot] = last
        last.slot = protocol.slot
        protocol.slot = NO_SLOT
        drop_last(self.protocols)
        if self.census is not None:
            self.census.note(len(self.protocols))
