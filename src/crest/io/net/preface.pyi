from typing import Any, Final, final

from crest.io.loop.poller import Pollable, Poller
from crest.io.loop.turn import Turn
from crest.io.net.secure import Handshake

LONGEST: Final = 4096

@final
class Lobby:
    def __new__(cls, poller: Poller, turn: Turn, reception: Any, connector: Any) -> Lobby: ...

@final
class Grace(Handshake): ...

@final
class Preface(Pollable): ...
