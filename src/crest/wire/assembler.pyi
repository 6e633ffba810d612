from typing_extensions import disjoint_base

@disjoint_base
class Assembler:
    @property
    def max_message_size(self) -> int: ...
