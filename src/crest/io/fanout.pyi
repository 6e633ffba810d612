from typing import final

from crest.io.backlog import Feed
from crest.io.crew import Crew
from crest.io.outbox import Outbox
from crest.io.turn import Turn

@final
class Fanout(Feed):
    def __new__(
        cls, turn: Turn, *, max_backlog: int, policy: int, slice: float, crew: Crew | None = None
    ) -> Fanout: ...
    @property
    def members(self) -> list[Outbox]: ...
