from typing import final

from crest.io.crew import Crew
from crest.io.outbox import Feed, Outbox
from crest.io.turn import Turn

@final
class Fanout(Feed):
    def __new__(cls, turn: Turn, *, max_backlog: int, drop: bool, slice: float, crew: Crew | None = None) -> Fanout: ...
    @property
    def members(self) -> list[Outbox]: ...
