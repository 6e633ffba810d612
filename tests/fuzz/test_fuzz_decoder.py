"""A short run of fuzz_decoder.py, the same each time, and whether its cases reach every kind of str and of failure."""

import sys

import pytest
from fuzz.fuzz_decoder import check_numbered

from crest.kernels import decoder

SEED = 3629
CASES = 2000


def test_fuzz() -> None:
    found = [check_numbered(SEED, number) for number in range(CASES)]
    texts = [each for each in found if isinstance(each, str)]
    assert len(texts) > CASES / 4
    assert len(found) - len(texts) > CASES / 4
    # Of each kind of str, the bytes of a character.
    widths = {text: (sys.getsizeof(text * 3) - sys.getsizeof(text * 2)) // len(text) for text in texts if text}
    kinds = {(text.isascii(), width) for text, width in widths.items()}
    assert kinds == {(True, 1), (False, 1), (False, 2), (False, 4)}


def test_mismatch_says_how_to_run_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder, "decode_with", lambda variant, data: "other")
    with pytest.raises(AssertionError, match="scalar: 'other'\nCPython: ") as caught:
        check_numbered(SEED, 3)
    assert caught.value.__notes__ == [f"again: python tests/fuzz/fuzz_decoder.py --seed {SEED} --case 3"]
