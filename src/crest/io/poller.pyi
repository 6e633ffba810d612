import asyncio
from typing import final

from typing_extensions import disjoint_base

@disjoint_base
class Pollable:
    fd: int

@final
class Poller:
    exists: bool
    def __new__(cls, loop: asyncio.AbstractEventLoop) -> Poller: ...
    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...
    def close(self) -> None: ...
