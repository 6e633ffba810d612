from typing_extensions import disjoint_base

from crest.io.loop.turn import Pending

@disjoint_base
class Pieces(Pending): ...
