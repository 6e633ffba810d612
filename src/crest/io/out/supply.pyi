from typing_extensions import disjoint_base

from crest.io.out.log import Log

@disjoint_base
class Supply(Log): ...
