from typing_extensions import disjoint_base

from crest.io.out.backlog import Backlog

@disjoint_base
class Sender(Backlog): ...
