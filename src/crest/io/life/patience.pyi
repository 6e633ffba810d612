from typing_extensions import disjoint_base

from crest.io.life.closing import Closing

@disjoint_base
class Patience(Closing):
    def expired(self) -> None: ...
