from typing import final

from crest.io.life.protocol import Protocol
from crest.io.loop.budget import Budget

@final
class Intake:
    def __new__(cls, budget: Budget, owner: Protocol) -> Intake: ...
