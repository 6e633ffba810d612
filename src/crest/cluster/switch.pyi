from collections.abc import Callable
from typing import final

from crest.cluster.link import Link, Owner
from crest.cluster.router import Port, Router
from crest.io.loop.clock import Deadline
from crest.io.loop.poller import Pollable, Poller
from crest.io.loop.turn import Turn

@final
class Switch(Owner):
    def __new__(cls, turn: Turn) -> Switch: ...
    @property
    def router(self) -> Router: ...
    @property
    def ports(self) -> dict[Link, Port]: ...
    def add(self, fd: int, number: int, queue: int) -> None: ...
    def tell(self) -> None: ...

@final
class Telling(Deadline): ...

@final
class Control(Pollable):
    def __new__(cls, poller: Poller, fd: int, callback: Callable[[], object]) -> Control: ...
