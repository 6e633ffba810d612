"""Ledgers of several processes, all in this one."""

from crest.io.loop.ledger import Ledger

SECRET = b"0123456789abcdef"


def memory(tables: int, entries: int) -> bytearray:
    """What the tables are in: each has so many entries, a power of two."""
    return bytearray(tables * (entries + 1) * Ledger.ENTRY)


def ledgers(count: int, entries: int = 1024) -> list[Ledger]:
    """The ledger as each of the processes sees it."""
    shared = memory(count, entries)
    return [Ledger(shared, slot, count, SECRET) for slot in range(count)]
