from typing_extensions import disjoint_base

from crest.io.closing import Closing

@disjoint_base
class Pace(Closing): ...
