import asyncio
from collections.abc import Callable
from typing import final

@final
class Budget:
    def __new__(cls, loop: asyncio.AbstractEventLoop, limit: int | None, flush: Callable[[], object]) -> Budget: ...
    @property
    def limit(self) -> int: ...
    @property
    def used(self) -> int: ...

@final
class Kept: ...
