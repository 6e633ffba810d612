from typing_extensions import disjoint_base

from crest.io.out.address import UserRoom

@disjoint_base
class Relay:
    def relayed(
        self,
        opcode: int,
        payload: bytes,
        key: str | bytes | int | None,
        compress: bool,
        to: tuple[str | UserRoom, ...] | None,
    ) -> None: ...
