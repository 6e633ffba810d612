"""Counts of what one server has done since it was made, which only grow, and of the connections that are open.

They are counted where it happens, in compiled code, and for a broadcast once for all its deliveries. A server's
variants (`Hub.variant`) and both its fan-outs share one `Tally`. No loop owns it: it outlives each loop that serves.
"""

cimport cython
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.stdint cimport int64_t, uint64_t

from crest.io.loop.ledger cimport Ledger

cdef int FIRST_CODE = 1000      # of the codes that on_close may tell (RFC 6455 section 7.4)
cdef int CODES = 4000


@cython.final
cdef class Tally:
    """Counts for one server."""

    def __cinit__(self):
        self.closed = <uint64_t*>PyMem_Calloc(CODES, sizeof(uint64_t))  # so that to count needs no memory
        if self.closed == NULL:
            raise MemoryError

    def __dealloc__(self):
        PyMem_Free(self.closed)

    cdef void count_close(self, int code) noexcept:
        """Count the end of a connection."""
        if FIRST_CODE <= code < FIRST_CODE + CODES:
            self.closed[code - FIRST_CODE] += 1

    cdef void count_open(self, int64_t change) noexcept:
        """Count one more connection that is open, or one less."""
        self.open += <uint64_t>change
        if self.ledger is not None:
            self.ledger.put(self.account, self.open)

    def share(self, Ledger ledger not None, str name not None):
        """Let other processes read how many connections are open, under a name that is the same in all of them."""
        self.account = ledger.account(name)
        self.ledger = ledger

    def open_elsewhere(self):
        """Return how many connections of the same server are open in other processes."""
        return 0 if self.ledger is None else self.ledger.sum_of_others(self.account)

    def counts(self):
        """Return the counts of now by name, in a new dict; `closed` is a dict by code."""
        cdef int i
        return {
            "opened": self.opened,
            "closed": {FIRST_CODE + i: self.closed[i] for i in range(CODES) if self.closed[i]},
            "received": self.received,
            "received_bytes": self.received_bytes,
            "sent": self.sent,
            "broadcasts": self.broadcasts,
            "deliveries": self.deliveries,
            "sent_bytes": self.sent_bytes,
            "dropped": self.dropped,
            "discarded": self.discarded,
        }
