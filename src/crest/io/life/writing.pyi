from typing_extensions import disjoint_base

from crest.io.life.patience import Patience

@disjoint_base
class Writing(Patience):
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...
