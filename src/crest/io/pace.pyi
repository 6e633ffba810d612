from typing_extensions import disjoint_base

from crest.io.reading import Reading

@disjoint_base
class Pace(Reading): ...
