import enum

class Verdict(enum.IntEnum):
    NOTHING = 0
    ASK = 1
    UNANSWERED = 2
    IDLE = 3

# The structs of heartbeat.pxd, by the names of their fields.
_Pulse = dict[str, int]
_Terms = dict[str, int]

def judge(pulse: _Pulse, terms: _Terms, now: int) -> int: ...
def due(pulse: _Pulse, terms: _Terms, now: int) -> int: ...
