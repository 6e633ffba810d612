"""The frame reader against the oracle, with the cases of fuzz_frames.py: rates and the order of failures, too. Slow.

Input: how to cut, delivery and compression, limits, rates; then the stream.
"""

from fuzz.fuzz_frames import FRAGMENT_LIMITS, LIMITS, RATES, Case
from fuzz.fuzz_frames import check as check_case
from support.reference import Event


def check(data: bytes) -> list[Event]:
    if len(data) < 5:
        return []
    size, least, stream = data[0] or len(data), data[1] & 0x3F, data[5:]
    chunks = [stream[at : at + size] for at in range(0, len(stream), size)]
    limits = LIMITS[data[2] % len(LIMITS)], FRAGMENT_LIMITS[data[3] % len(FRAGMENT_LIMITS)]
    takeover = [None, None, False, True][data[1] >> 6]
    rates = [None, *RATES]
    messages, octets = rates[data[4] % len(rates)], rates[data[4] // len(rates) % len(rates)]
    count = len(chunks)
    pauses = [(1, False)] * count
    return check_case(Case(stream, chunks, [least or None] * count, *limits, takeover, (messages, octets), 0, pauses))
