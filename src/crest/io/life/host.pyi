from typing_extensions import disjoint_base

from crest.io.loop.turn import Turn
from crest.io.out.backlog import Owner
from crest.io.out.outbox import Outbox

@disjoint_base
class Host(Owner):
    @property
    def turn(self) -> Turn: ...
    @property
    def connection(self) -> Outbox | None: ...  # None before the upgrade
