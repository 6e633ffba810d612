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

@final
class Callback:
    def __new__(cls, poller: Poller) -> Callback: ...
    def run(self) -> None: ...
    def __del__(self) -> None: ...
