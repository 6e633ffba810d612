from typing import final

@final
class Value: ...

@final
class Latest:
    def __new__(cls, max_backlog: int) -> Latest: ...
