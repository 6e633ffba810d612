"""How many connections each process has of those that accept at the same sockets.

The kernel gives a new connection to whichever process asks first: most often to one that has much to do with others
already, as it is awake. So a process that has more connections than another one leaves the next ones to that.

The counts are in memory that the processes share. Each writes its own slot only. The process that has started the
others empties the slot of one that has ended, however it did.
"""

cimport cython
from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint32_t, uint64_t

cdef extern from "census.h":
    void crest_census_write(crest_census_slot* slot, uint32_t accepting, uint32_t connections)
    void crest_census_count(crest_census_slot* slot, uint32_t connections)
    uint32_t crest_census_least(const crest_census_slot* slots, uint32_t count)

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
        crest_census_write(self.slots + self.slot, 1, self.slots[self.slot].connections)

    def end(self):
        """Take no more connections: others do not wait for this process."""
        crest_census_write(self.slots + self.slot, 0, self.slots[self.slot].connections)

    def clear(self, uint32_t slot):
        """Empty the slot of a process that has ended."""
        if slot < self.count:
            crest_census_write(self.slots + slot, 0, 0)

    def connections(self):
        """List the connections of each slot."""
        return [self.slots[i].connections for i in range(self.count)]

    cdef void note(self, uint32_t connections) noexcept:
        """Write down how many connections this process has."""
        crest_census_count(self.slots + self.slot, connections)

    cdef bint is_ahead(self) noexcept:
        """True if another process is to take the next connection."""
        return self.slots[self.slot].connections > <uint64_t>crest_census_least(self.slots, self.count) + AHEAD
