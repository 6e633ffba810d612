"""Valid and invalid UTF-8 that tells implementations apart."""

import random
from collections.abc import Iterator

# The first and last code point of every length of sequence, and of the surrogates.
BOUNDARIES = [0x00, 0x7F, 0x80, 0x7FF, 0x800, 0xFFF, 0x1000, 0xD7FF, 0xE000, 0xFFFF, 0x10000, 0x3FFFF, 0x40000]
BOUNDARIES += [0x10FFFF]

# For each byte of a sequence, the ends of every range that RFC 3629's grammar tells apart, and their neighbours.
LEADS = [0x00, 0x41, 0x7F, 0x80, 0x9F, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF, 0xE0, 0xE1, 0xEC, 0xED, 0xEE, 0xEF, 0xF0, 0xF1]
LEADS += [0xF3, 0xF4, 0xF5, 0xF7, 0xF8, 0xFB, 0xFC, 0xFE, 0xFF]
SECONDS = [0x00, 0x7F, 0x80, 0x81, 0x8F, 0x90, 0x91, 0x9F, 0xA0, 0xA1, 0xAF, 0xB0, 0xBF, 0xC0, 0xC2, 0xE0, 0xF0, 0xFF]
TAILS = [0x41, 0x7F, 0x80, 0x9F, 0xBF, 0xC0, 0xC3, 0xE2, 0xF0, 0xFF]

SAMPLES = [
    b"ASCII, and nothing else, but enough of it to fill a block of every variant there is, which is sixty-four.",
    "Γαζέες καὶ μυρτιὲς δὲν θὰ βρῶ πιὰ στὸ χρυσαφὶ ξέφωτο".encode(),
    "私はガラスを食べられます。それは私を傷つけません。".encode(),
    "😀😃😄😁😆😅🤣😂🙂🙃🫠😉😊😇".encode(),
    "a é 語 😀 ".encode() * 9,
    "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich: «Schluß», sagt er, für 5 £.".encode(),
    "Съешь же ещё этих мягких французских булок, да выпей чаю".encode(),
    "हम काँच खा सकते हैं, और 나는 유리를 먹을 수 있어요. אני יכול לאכול זכוכית".encode(),
    '{"id":1207,"user":"Иван","text":"Hello, 世界! How are you? 👩🏽‍🚀","tags":["a","ß"],"ok":true}'.encode(),
]


def mutations(count: int) -> Iterator[bytes]:
    """Valid text in which a few bytes were overwritten, dropped or doubled."""
    chance = random.Random(3629)
    interesting = LEADS + SECONDS
    for _ in range(count):
        text = bytearray(b"".join(chance.choices(SAMPLES, k=2))[chance.randrange(80) :])
        for _ in range(chance.randrange(4)):
            at = chance.randrange(len(text))
            new = [bytes([chance.choice(interesting)]), b"", text[at : at + 1] * 2][chance.randrange(3)]
            text[at : at + 1] = new
        yield bytes(text)
