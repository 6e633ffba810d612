import enum
from typing import TypedDict

class Pulse(TypedDict):
    heard: int
    spoke: int
    asked: int

class Terms(TypedDict):
    interval: int
    timeout: int
    idle: int

class Verdict(enum.IntEnum):
    NOTHING = 0
    ASK = 1
    UNANSWERED = 2
    IDLE = 3

def judge(pulse: Pulse, terms: Terms, now: int) -> int: ...
def due(pulse: Pulse, terms: Terms, now: int) -> int: ...
