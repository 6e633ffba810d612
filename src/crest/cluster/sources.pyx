"""How far the messages of each other worker have come, and what is missing between them.

A worker counts its messages to all, and those to rooms, each for itself. Every worker gets all of the former: there a
number that is left out is a message that is missing. A GAP that came before may have counted it. If none has, it was
lost inside an exchange that ended.

Of the messages to rooms a worker gets those that it is interested in. Numbers that are left out mean nothing there.
What an exchange had of them when it ended can not be counted: if there may have been any, that is said.
"""

cimport cython
from libc.stdint cimport uint32_t, uint64_t

from crest.cluster.record cimport Beginning, Header


@cython.final
cdef class Source:
    """One other worker."""


@cython.final
cdef class Sources:
    """The other workers, by number."""

    def __cinit__(self):
        self.known = {}

    cdef Source find(self, uint32_t number):
        """Return what is known of a worker, or None."""
        if self.latest is None or self.latest.number != number:
            self.latest = self.known.get(number)
        return self.latest

    cdef Source meet(self, uint32_t number):
        cdef Source source = Source.__new__(Source)
        source.number = number
        self.known[number] = source
        return source

    cdef uint64_t message(self, const Header* header) except? 0:
        """Note that a message has come. Returns how many before it are missing, and were not counted."""
        cdef Source source = self.find(header.origin)
        cdef uint64_t last
        if source is None:
            source = self.meet(header.origin)
            source.last.plain = header.sequence - 1
        if header.addresses_size:
            source.last.addressed = header.sequence
            return 0
        last = source.last.plain
        source.last.plain = header.sequence
        if header.sequence <= last + 1:
            return 0
        return self.unexplained(header.sequence - last - 1)

    cdef uint64_t begin(self, uint32_t number, const Beginning* beginning, bint* uncertain) except? 0:
        """Note how far the messages of a worker had come when it, or this one, was connected. Returns how many messages
        to all are missing; `uncertain`: perhaps some to rooms, too."""
        cdef Source source = self.find(number)
        cdef uint64_t missing = 0
        if source is None:
            source = self.meet(number)
        elif source.last.incarnation == beginning.incarnation or not source.begun:
            if beginning.plain > source.last.plain:
                missing = self.unexplained(beginning.plain - source.last.plain)
            uncertain[0] = beginning.addressed > source.last.addressed
        source.last = beginning[0]
        source.begun = True
        return missing

    cdef uint64_t unexplained(self, uint64_t missing) noexcept:
        """Return how many of those that are missing no GAP has counted."""
        cdef uint64_t explained = min(missing, self.explained)
        self.explained -= explained
        return missing - explained

    # ---- For tests -----------------------------------------------------------------------------------------------

    def tell_message(self, origin, sequence, addressed=False):
        """Note a message; returns how many are missing."""
        cdef Header header
        header.origin = origin
        header.sequence = sequence
        header.addresses_size = 8 if addressed else 0
        return self.message(&header)

    def tell_start(self, number, incarnation, plain, addressed):
        """Note a START; returns how many are missing, and True if there may be others."""
        cdef Beginning beginning
        cdef bint uncertain = False
        beginning.incarnation = incarnation
        beginning.plain = plain
        beginning.addressed = addressed
        missing = self.begin(number, &beginning, &uncertain)
        return missing, bool(uncertain)

    def tell_gap(self, plain):
        """Note that a GAP has counted messages to all."""
        self.explained += <uint64_t>plain
