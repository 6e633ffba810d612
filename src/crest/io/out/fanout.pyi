from typing import final

from crest.io.loop.turn import Turn
from crest.io.out.circle import Circles
from crest.io.out.crew import Crew
from crest.io.out.outbox import Outbox
from crest.io.out.supply import Supply
from crest.io.out.tally import Tally

@final
class Fanout(Supply):
    def __new__(
        cls,
        turn: Turn,
        tally: Tally,
        *,
        max_backlog: int,
        policy: int,
        slice: float,
        crew: Crew | None = None,
        user_key: str | None = None,
    ) -> Fanout: ...
    @property
    def members(self) -> list[Outbox]: ...
    @property
    def circles(self) -> Circles: ...
