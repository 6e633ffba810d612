"""Fuzzes the decoder: random and mutated text, every variant of crest.kernels.decoder against CPython's.

python tests/fuzz/fuzz_decoder.py [--seconds N] [--seed S] [--case N]
"""

import random
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fuzz import campaign

from crest.kernels import decoder

# Ranges of code points, as scripts have them: a text is mostly of one, with words of others and spaces.
SCRIPTS = [
    (0x20, 0x7F),
    (0xA0, 0x100),
    (0x100, 0x180),
    (0x370, 0x530),
    (0x590, 0x700),
    (0x900, 0xE00),
    (0x3040, 0x3100),
    (0x4E00, 0xA000),
    (0xAC00, 0xD800),
    (0xE000, 0x10000),
    (0x1F300, 0x1FB00),
    (0x10000, 0x110000),
]
SEPARATORS = ["", " ", " ", ", ", ". ", "\n", '","', "，", "\u00a0"]
SIZES = [0, 1, 2, 5, 20, 60, 150]  # words
# Bytes that decide something in a sequence.
TELLING = bytes.fromhex("00 41 7f 80 8f 90 9f a0 bf c0 c1 c2 df e0 e1 ec ed ee ef f0 f1 f3 f4 f5 ff")


def make_text(rng: random.Random) -> bytes:
    words = []
    usual = rng.sample(SCRIPTS, rng.choice([1, 1, 2, 3]))
    foreign = rng.choice([0, 0, 0.01, 0.2])
    for _ in range(rng.choice(SIZES)):
        script = range(*rng.choice(SCRIPTS if rng.random() < foreign else usual))
        words.append("".join(map(chr, rng.choices(script, k=rng.randrange(1, 14)))) + rng.choice(SEPARATORS))
    return "".join(words).encode()


def mutate(rng: random.Random, text: bytes) -> bytes:
    mutated = bytearray(text)
    for _ in range(rng.choice([0, 0, 1, 1, 3])):
        at = rng.randrange(len(mutated) + 1)
        fault = rng.randrange(4)
        if fault == 0:
            mutated[at : at + 1] = bytes([rng.choice(TELLING)])
        elif fault == 1:
            del mutated[at : at + rng.choice([1, 1, 2, 3])]
        elif fault == 2:
            mutated[at:at] = bytes(rng.choices(TELLING, k=rng.choice([1, 1, 2, 4])))
        else:
            del mutated[at:]
    return bytes(mutated)


def check(data: bytes) -> str | int:
    """Decode by every variant and return the text, or where it is not UTF-8.

    Raises:
        AssertionError: A variant differs from CPython, or in the kind of str.
    """
    expected = outcome(bytes.decode, data)
    for variant in decoder.variants():
        found = outcome(partial(decoder.decode_with, variant), data)
        # Sizes of twice the text: CPython has single letters with their UTF-8.
        same = found == expected and sys.getsizeof(found * 2) == sys.getsizeof(expected * 2)
        assert same, f"{variant}: {found!r}\nCPython: {expected!r}\n{data!r}"
    return expected


def outcome(decode: Callable[[bytes], str], data: bytes) -> str | int:
    try:
        return decode(data)
    except UnicodeDecodeError as error:
        return error.start


def check_numbered(seed: int, number: int) -> str | int:
    return campaign.check_numbered(lambda rng: check(mutate(rng, make_text(rng))), __file__, seed, number)


if __name__ == "__main__":
    campaign.run(check_numbered, campaign.parser(__doc__).parse_args())
