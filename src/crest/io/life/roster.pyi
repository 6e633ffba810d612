from typing import final

from crest.io.life.protocol import Protocol

@final
class Roster:
    @property
    def protocols(self) -> list[Protocol]: ...
    def add(self, protocol: Protocol) -> None: ...
    def remove(self, protocol: Protocol) -> None: ...
