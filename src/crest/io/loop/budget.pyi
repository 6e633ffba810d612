import asyncio
from collections.abc import Callable
from typing import final

from crest.io.loop.census import Census

@final
class Budget:
    def __new__(cls, loop: asyncio.AbstractEventLoop, limit: int | None, flush: Callable[[], object]) -> Budget: ...
    def share(self, census: Census) -> None: ...
    @property
    def limit(self) -> int: ...
    @property
    def used(self) -> int: ...

@final
class Kept: ...
