"""What each of several processes counts, where the others can read it: for limits that hold for all of them together.

Each process has a table in memory that they share. It writes its own, and reads those of others. So nothing is locked,
and what a process had counted goes with its table when it ends, however that was. Two processes that count at the same
time do not see each other's: a limit is exceeded by one for each other process, at most.

An account is a number that stands for a name: 64 bits of a hash, with a key that clients do not know. So no client can
make two names share one, and by chance hardly any two do.
"""

cimport cython
from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint32_t, uint64_t

from hashlib import blake2b

cdef extern from "ledger.h":
    ctypedef struct crest_ledger_entry:
        pass
    uint64_t crest_ledger_get(const crest_ledger_table* table, uint64_t mask, uint64_t account) noexcept
    bint crest_ledger_set(crest_ledger_table* table, uint64_t mask, uint64_t account, uint64_t value) noexcept


@cython.final
cdef class Ledger:
    """The tables, as one process sees them.

    Args:
        memory: a writable buffer of `count` tables of one size, zero at first.
        slot: of this process.
        count: processes.
        secret: at most 64 bytes that all processes know and no client does.

    Attributes:
        refused: values that there was no room for, so far.
        ENTRY: bytes of an entry. A table has a power of two of them, behind less than a page of its own.
    """

    ENTRY = sizeof(crest_ledger_entry)      # which is the size of a table without any, too

    def __cinit__(self, memory not None, uint32_t slot, uint32_t count, bytes secret not None):
        PyObject_GetBuffer(memory, &self.memory, PyBUF_WRITABLE)
        if slot >= count:
            raise ValueError(f"there is no slot {slot} of {count}")
        self.size = self.memory.len // count
        entries = self.size // self.ENTRY - 1
        if entries < 4:
            raise ValueError(f"{self.memory.len} bytes are too few for {count} tables")
        self.mask = (1 << entries.bit_length() - 1) - 1
        self.slot, self.count, self.secret = slot, count, secret

    def __dealloc__(self):
        PyBuffer_Release(&self.memory)

    def account(self, str name not None):
        """Return the account of a name, never 0."""
        hashed = blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8, key=self.secret).digest()
        return int.from_bytes(hashed, "little") or 1

    def write(self, uint64_t account, uint64_t value):
        """Set this process's value of an account; 0, as at first, takes no memory. False: there is no room for it, and
        no other process sees it."""
        return self.put(account, value)

    cdef bint put(self, uint64_t account, uint64_t value) noexcept:
        cdef bint there = crest_ledger_set(self.table(self.slot), self.mask, account, value)
        self.refused += not there
        return there

    def sum_of_others(self, uint64_t account):
        """Add up what the other processes have in an account. None of them has a value that is near 2 ** 64."""
        cdef uint64_t found = 0
        cdef uint32_t i
        for i in range(self.count):
            if i != self.slot:
                found += crest_ledger_get(self.table(i), self.mask, account)
        return found

    def most_of_others(self, uint64_t account):
        """Find the largest value that another process has in an account."""
        cdef uint64_t found = 0
        cdef uint32_t i
        for i in range(self.count):
            if i != self.slot:
                found = max(found, crest_ledger_get(self.table(i), self.mask, account))
        return found

    cdef crest_ledger_table* table(self, uint32_t slot) noexcept:
        return <crest_ledger_table*>(<char*>self.memory.buf + slot * self.size)
