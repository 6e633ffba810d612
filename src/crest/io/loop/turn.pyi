import asyncio
from collections.abc import Callable
from typing import TypeVarTuple, final

from typing_extensions import disjoint_base

from crest.io.loop.budget import Budget
from crest.io.loop.clock import Clock
from crest.io.loop.poller import Poller

_Ts = TypeVarTuple("_Ts")

@final
class Block:
    def __new__(cls, room: int, budget: Budget | None) -> Block: ...
    @property
    def room(self) -> int: ...

@disjoint_base
class Pending: ...

@final
class Turn:
    poller: Poller | None  # watches paused transports of the loop's
    def __new__(
        cls,
        loop: asyncio.AbstractEventLoop,
        *,
        clock: Clock | None = None,
        max_backlog_total: int | None = None,
        busy_code: int = 1013,
    ) -> Turn: ...
    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...
    @property
    def clock(self) -> Clock: ...
    @property
    def budget(self) -> Budget: ...
    @property
    def busy_code(self) -> int: ...
    @property
    def read_buffer(self) -> bytearray: ...
    def call_later(self, callback: Callable[[*_Ts], object], *args: *_Ts) -> bool: ...
    def run(self) -> None: ...
