from typing_extensions import disjoint_base

from crest.io.out.framelog import Log

@disjoint_base
class Supply(Log): ...
