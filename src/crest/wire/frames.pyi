from typing import final

from typing_extensions import Buffer

from crest.wire.assembler import Assembler
from crest.wire.deflate import Inflater
from crest.wire.meter import Meter

# (Opcode, payload), (DROPPED, ""), or (Opcode.CLOSE or FAIL, close code, close reason or error text)
_Event = tuple[int, str] | tuple[int, bytes] | tuple[int, int, str]

@final
class FrameReader(Assembler):
    def __new__(
        cls,
        *,
        role: int = ...,
        max_message_size: int = 1048576,
        max_fragments: int = 131072,
        inflater: Inflater | None = None,
        meter: Meter | None = None,
    ) -> FrameReader: ...
    def feed(self, data: Buffer) -> list[_Event]: ...
    def feed_direct(self, data: Buffer, least: int = 1) -> list[_Event]: ...
    @property
    def max_fragments(self) -> int: ...
    @property
    def event(self) -> int: ...
    @property
    def close_code(self) -> int: ...

def serialize(opcode: int, payload: Buffer) -> bytes: ...
