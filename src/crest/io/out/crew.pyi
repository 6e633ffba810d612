from typing import final

@final
class Crew:
    def __new__(cls, threads: int) -> Crew: ...
