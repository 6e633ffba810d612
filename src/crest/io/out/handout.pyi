from typing import final

from crest.io.loop.turn import Pending, Turn

@final
class Handout(Pending):
    def __new__(cls, turn: Turn, slice: int) -> Handout: ...
