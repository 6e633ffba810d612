from typing import Any, final

from crest.io.loop.census import Census
from crest.io.loop.poller import Pollable, Poller
from crest.io.loop.turn import Turn

@final
class Acceptor(Pollable):
    def __new__(
        cls,
        poller: Poller,
        fd: int,
        turn: Turn,
        site: Any,
        reception: Any = None,
        connector: Any = None,
        census: Census | None = None,
    ) -> Acceptor: ...
    def close(self) -> None: ...
