from enum import IntEnum
from typing import NamedTuple

from crest.io.out.address import UserRoom

class RecordKind(IntEnum):
    VOID = 0
    MESSAGE = 1
    INTEREST = 2
    DISINTEREST = 3
    GAP = 4
    OPAQUE = 5
    START = 6
    LEFT = 7

class RecordError(ValueError): ...

class Unpacked(NamedTuple):
    kind: int
    opcode: int
    origin: int
    server: int
    sequence: int
    to: tuple[str | UserRoom, ...] | None
    key: str | bytes | int | None
    payload: bytes
    compress: bool

def server_id(path: str) -> int: ...
def pack(
    kind: int,
    payload: bytes = b"",
    *,
    opcode: int = 0,
    origin: int = 0,
    server: int = 0,
    sequence: int = 0,
    to: tuple[str | UserRoom, ...] | None = None,
    key: str | bytes | int | None = None,
    compress: bool = False,
) -> bytes: ...
def pack_gap(
    *,
    cause: int = 1,
    origin: int = 0,
    plain: int = 0,
    addressed: int = 0,
    uncertain: int = 0,
    others: int = 0,
    since: int = 0,
    until: int = 0,
) -> bytes: ...
def gap_in(record: bytes) -> tuple[int, int, int, int, int]: ...
def unpack(data: bytes) -> tuple[list[Unpacked], bytes]: ...
