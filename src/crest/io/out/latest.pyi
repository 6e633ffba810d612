from typing import final

from crest.io.loop.budget import Budget

@final
class Value: ...

@final
class Newest: ...

@final
class Latest:
    def __new__(cls, budget: Budget, max_backlog: int) -> Latest: ...
