from collections.abc import Callable
from typing import final

from typing_extensions import Buffer

@final
class Masker:
    def __new__(cls, entropy: Callable[[int], bytes] = ...) -> Masker: ...
    def serialize(self, opcode: int, payload: Buffer) -> bytes: ...
