"""How many connections each process has of those that accept at the same sockets, and how much waits for them.

The kernel gives a new connection to whichever process asks first: most often to one that has much to do with others
already, as it is awake. So a process that has more connections than another one leaves the next ones to that.

The counts are in memory that the processes share. Each writes its own slot only. The process that has started the
others empties the slot of one that has ended, however it did.

What waits has one limit for all processes together. The one that is to give way is one that has more than its share.
"""

cimport cython
from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint32_t, uint64_t

cdef extern from "census.h":
    void crest_census_accept(crest_census_slot* slot, uint32_t accepting) noexcept
    void crest_census_count(crest_census_slot* slot, uint32_t connections) noexcept
    void crest_census_wait(crest_census_slot* slot, uint64_t waiting) noexcept
    uint64_t crest_census_waiting(const crest_census_slot* slots, uint32_t count) noexcept
    uint32_t crest_census_accepting(const crest_census_slot* slots, uint32_t count) noexcept
    uint32_t crest_census_least(const crest_census_slot* slots, uint32_t count) noexcept

cdef uint32_t AHEAD = 2     # connections that a process may have more than another one


@cython.final
cdef class Census:
    """The counts, as one process sees them.

    Args:
        memory: a writable buffer of SLOT bytes for each process, zero at first.
        slot: of this process.

    Attributes:
        SLOT: bytes for each process.
    """

    SLOT = CREST_CENSUS_SLOT

    def __cinit__(self, memory not None, uint32_t slot):
        PyObject_GetBuffer(memory, &self.memory, PyBUF_WRITABLE)
        self.slots = <crest_census_slot*>self.memory.buf
        self.count = <uint32_t>(self.memory.len // CREST_CENSUS_SLOT)
        self.slot = slot
        if slot >= self.count:
            raise ValueError(f"there is no slot {slot} of {self.count}")

    def __dealloc__(self):
        PyBuffer_Release(&self.memory)

    def begin(self):
        """Take connections from now on."""
        crest_census_accept(self.slots + self.slot, 1)

    def end(self):
        """Take no more connections: others do not wait for this process."""
        crest_census_accept(self.slots + self.slot, 0)

    def clear(self, uint32_t slot):
        """Empty the slot of a process that has ended."""
        if slot < self.count:
            crest_census_accept(self.slots + slot, 0)
            crest_census_count(self.slots + slot, 0)
            crest_census_wait(self.slots + slot, 0)

    def connections(self):
        """List the connections of each slot."""
        return [self.slots[i].connections for i in range(self.count)]

    cdef void note(self, uint32_t connections) noexcept:
        """Write down how many connections this process has."""
        crest_census_count(self.slots + self.slot, connections)

    cdef void note_waiting(self, uint64_t size) noexcept:
        """Write down how many bytes wait in this process."""
        crest_census_wait(self.slots + self.slot, size)

    cdef uint64_t share(self, uint64_t limit) noexcept:
        """Return what a process may have of a limit for all, whatever the others have."""
        return limit // max(<uint32_t>1, crest_census_accepting(self.slots, self.count))

    cdef uint64_t allowed(self, uint64_t limit, uint64_t own) noexcept:
        """Return how many bytes may wait here, of a limit for all, when `own` bytes do."""
        cdef uint64_t others = crest_census_waiting(self.slots, self.count) - own
        return max(self.share(limit), limit - min(limit, others))

    cdef bint is_ahead(self) noexcept:
        """True if another process is to take the next connection."""
        return self.slots[self.slot].connections > <uint64_t>crest_census_least(self.slots, self.count) + AHEAD
