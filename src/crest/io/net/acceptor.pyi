from typing import Any, final

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
    ) -> Acceptor: ...
    def close(self) -> None: ...
