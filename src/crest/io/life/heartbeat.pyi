from typing_extensions import disjoint_base

from crest.io.life.inbox import Inbox

@disjoint_base
class Heartbeat(Inbox): ...
