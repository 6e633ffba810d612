from typing import final

from crest.wire.extensions import Agreement, Deflate

@final
class Compression:
    def __new__(cls, options: Deflate) -> Compression: ...

@final
class Deflation:
    def __new__(cls, compression: Compression, agreed: Agreement) -> Deflation: ...
    @property
    def agreed(self) -> str: ...
