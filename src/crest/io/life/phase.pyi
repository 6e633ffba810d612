import enum

class Phase(enum.IntEnum):
    OPENING = 0
    OPEN = 1
    CLOSING = 2
    LOST = 3
    LINGERING = 4
    GONE = 5

class Step(enum.IntEnum):
    UPGRADED = 0
    CLOSE_SENT = 1
    ENDED = 2
    TRANSPORT_LOST = 3

def after(phase: int, step: int) -> int: ...
