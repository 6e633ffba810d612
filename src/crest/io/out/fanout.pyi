from typing import final

from crest.io.loop.turn import Turn
from crest.io.out.backlog import Feed
from crest.io.out.crew import Crew
from crest.io.out.outbox import Outbox
from crest.io.out.tally import Tally

@final
class Fanout(Feed):
    def __new__(
        cls, turn: Turn, tally: Tally, *, max_backlog: int, policy: int, slice: float, crew: Crew | None = None
    ) -> Fanout: ...
    @property
    def members(self) -> list[Outbox]: ...
