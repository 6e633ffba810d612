from typing_extensions import disjoint_base

from crest.io.out.backlog import Feed

@disjoint_base
class Log(Feed): ...
