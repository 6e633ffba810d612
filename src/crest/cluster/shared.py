"""Memory that the processes of one app share: a slot for each process, which it alone writes.

It holds a secret, then the slots of the census, then the tables of the ledger, each at a page of its own. Of a table,
as large as it may be, the system gives only the pages that were written.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from typing import Final

from crest.io.loop.census import Census
from crest.io.loop.ledger import Ledger

ENTRIES: Final = 1 << 18
"""Of each table: more than a process has connections and addresses that it remembers."""

SECRET: Final = 32
"""Bytes."""

TABLE: Final = mmap.PAGESIZE + ENTRIES * Ledger.ENTRY
"""Bytes of a table. What it needs beside entries has a page."""


def _places(slots: int) -> tuple[int, int, int]:
    """Return where the census begins, where the ledger does, and the size of it all."""
    census = mmap.PAGESIZE
    ledger = census + -(-slots * Census.SLOT // mmap.PAGESIZE) * mmap.PAGESIZE
    return census, ledger, ledger + slots * TABLE


def make_shared(slots: int) -> int:
    """Return the descriptor of memory for so many processes, which children may inherit and map."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("crest")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, _places(slots)[-1])
    os.pwrite(descriptor, os.urandom(SECRET), 0)
    return descriptor


class Shared:
    """The memory, as one process sees it.

    Args:
        descriptor: From `make_shared`; it may be closed afterwards.
        slot: Of this process.
        slots: How many there are.

    Attributes:
        census, ledger: What is in it.
    """

    def __init__(self, descriptor: int, slot: int, slots: int) -> None:
        census, self._ledger, size = _places(slots)
        self._memory = mmap.mmap(descriptor, size)
        view = memoryview(self._memory)
        self.census = Census(view[census : census + slots * Census.SLOT], slot)
        self.ledger = Ledger(view[self._ledger :], slot, slots, self._memory[:SECRET])

    def clear(self, slot: int) -> None:
        """Empty the slot of a process that has ended."""
        self.census.clear(slot)
        start = self._ledger + slot * TABLE
        if hasattr(mmap, "MADV_REMOVE"):
            self._memory.madvise(mmap.MADV_REMOVE, start, TABLE)
        else:
            self._memory[start : start + TABLE] = bytes(TABLE)
