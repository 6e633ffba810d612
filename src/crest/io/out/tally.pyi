from typing import Any, final

@final
class Tally:
    def counts(self) -> dict[str, Any]: ...
