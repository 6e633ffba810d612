"""The UTF-8 kernels as Python sees them: every variant, whole and in chunks, against CPython's decoder.

Input: cuts, then the text.
"""

from fuzz import fuzz_decoder
from fuzz.inputs import Input

from crest.kernels import utf8

VARIANTS = utf8.variants()


def check(data: bytes) -> str | int:
    """The text; or where it is not valid."""
    chunks = Input(data).chunks()
    text = b"".join(chunks)
    expected = fuzz_decoder.check(text)
    valid = isinstance(expected, str)
    assert utf8.valid_prefix(text) == (len(text) if valid else expected)
    assert utf8.is_ascii(text) == text.isascii()
    for variant in VARIANTS:
        assert utf8.is_valid_with(variant, text) == valid, variant
        validator = utf8.Validator(variant)
        fed = True
        for chunk in chunks:
            fed = validator.feed(chunk)
        assert validator.finish() == valid, variant
        # What a text that ends too early would have become, nothing says: it is unfinished, and not at fault.
        assert fed or validator.fault == expected, (variant, validator.fault, expected)
    return expected
