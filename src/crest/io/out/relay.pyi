from typing_extensions import disjoint_base

from crest.io.out.address import UserRoom

@disjoint_base
class Relay:
    def reaches(self, process: str) -> bool: ...
    def send_to(self, process: str, number: int, opcode: int, payload: bytes, compress: bool) -> bool: ...
    def relayed(
        self,
        opcode: int,
        payload: bytes,
        key: str | bytes | int | None,
        compress: bool,
        to: tuple[str | UserRoom, ...] | None,
    ) -> None: ...
