"""crest.wire.violations: each has its close code and its words. What is a violation is tested in test_frames.py."""

import pytest

from crest.wire.violations import close_for, violations

VALUES = {"opcode": 11, "length": 12, "size": 13, "max_message_size": 14, "max_fragments": 15}


def test_each_has_a_code_and_a_text_of_its_own() -> None:
    found = [close_for(each, VALUES) for each in violations()]
    assert {code for code, _ in found} == {1002, 1008, 1009}
    assert len({text for _, text in found}) == len(found) == 14
    assert not any("{" in text for _, text in found)


def test_none_could_be_taken_for_the_size_of_a_header() -> None:
    assert max(violations()) < 0


def test_what_is_no_violation() -> None:
    with pytest.raises(KeyError):
        close_for(0, VALUES)
    with pytest.raises(KeyError, match="size"):
        [close_for(each, {"opcode": 1, "length": 1}) for each in violations()]
