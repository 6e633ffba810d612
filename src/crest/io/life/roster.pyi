from typing import final

from crest.io.life.protocol import Protocol
from crest.io.loop.census import Census

@final
class Roster:
    @property
    def protocols(self) -> list[Protocol]: ...
    census: Census | None
    def add(self, protocol: Protocol) -> None: ...
    def remove(self, protocol: Protocol) -> None: ...
