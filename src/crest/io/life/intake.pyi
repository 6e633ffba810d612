from typing import Self

from typing_extensions import disjoint_base

from crest.io.life.host import Host
from crest.io.loop.budget import Budget

@disjoint_base
class Intake:
    def __new__(cls, budget: Budget, host: Host) -> Self: ...
