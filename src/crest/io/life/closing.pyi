import typing

from typing_extensions import disjoint_base

from crest.io.life.heartbeat import Heartbeat

@disjoint_base
class Closing(Heartbeat):
    @property
    def transport(self) -> typing.Any: ...  # asyncio.Transport; None before and after the connection
    def is_taking(self) -> bool: ...
    def set_deadline(self, seconds: float) -> None: ...
    def clear_deadline(self) -> None: ...
