"""Memory that the processes of one app share."""

from __future__ import annotations

import mmap
import os
import tempfile

from crest.io.loop.census import Census


def make_shared(size: int) -> int:
    """Return the descriptor of so many bytes of memory, all zero, which children may inherit and map."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("crest")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, size)
    return descriptor


def open_census(descriptor: int, slot: int) -> Census:
    """Map the counts of connections, for the process that has this slot."""
    size = os.fstat(descriptor).st_size
    return Census(mmap.mmap(descriptor, size), slot)
