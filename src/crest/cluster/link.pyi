from typing import final

from typing_extensions import disjoint_base

from crest.cluster.outgoing import Outgoing
from crest.io.loop.poller import Pollable

@disjoint_base
class Owner: ...

@final
class Link(Outgoing): ...

@final
class End(Pollable): ...
