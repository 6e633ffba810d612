from typing import final

from crest.io.out.backlog import Follower

@final
class Circle: ...

@final
class Memberships(Follower): ...

@final
class Circles: ...
