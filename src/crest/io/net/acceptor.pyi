from collections.abc import Callable
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
        receive: Callable[[int, tuple[str, int] | None], Any] | None = None,
    ) -> Acceptor: ...
    def close(self) -> None: ...
