from typing import final

from crest.io.budget import Budget
from crest.io.protocol import Protocol

@final
class Intake:
    def __new__(cls, budget: Budget, owner: Protocol) -> Intake: ...
