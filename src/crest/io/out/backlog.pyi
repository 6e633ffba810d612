from typing_extensions import disjoint_base

from crest.io.loop.clock import Deadline
from crest.io.loop.turn import Pending
from crest.io.out.pieces import Pieces

class Owner(Deadline): ...

@disjoint_base
class Follower:
    def stopped(self, outbox: Backlog) -> None: ...

@disjoint_base
class Feed(Pending):
    @property
    def max_backlog(self) -> int: ...
    @property
    def policy(self) -> int: ...

@disjoint_base
class Backlog(Pieces):
    @property
    def dropped(self) -> int: ...
    _follower: Follower | None
    def _log_fields(self) -> dict[str, object] | None: ...
