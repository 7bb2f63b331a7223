"""Identifiers, comments and literals that go into C."""

import re
import struct

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from alula.firmware_export.c_text import RESERVED_WORDS, c_float, comment, identifiers, table


def test_identifiers_by_example():
    names = ["position_w", "Position_W", "a b", "a-b", "3d", "for", "", "é", "_x_"]
    expected = ["position_w", "position_w_2", "a_b", "a_b_2", "n3d", "for_", "n", "n_2", "x"]
    assert identifiers(names) == expected


@given(st.lists(st.text(max_size=60)))
def test_identifiers_are_distinct_words(names):
    made = identifiers(names)
    assert len(set(made)) == len(made) == len(names)
    for word in made:
        assert re.fullmatch(r"[a-z][a-z0-9_]*", word, re.ASCII)
        assert word not in RESERVED_WORDS.split()


@given(st.text())
def test_comments_hold_no_sign_with_a_meaning(text):
    made = comment(text)
    assert made.isascii()
    assert len(made) <= 100
    assert not set(made) & set("*\"\\?@#'{}`\n\r|&$!")


@given(st.integers(0, 2**32 - 1))
def test_literals_come_back_exactly(bits):
    value = np.uint32(bits).view(np.float32)
    if np.isfinite(value):
        literal = c_float(value)
        assert re.fullmatch(r"-?\d+(\.\d+)?(e[+-]\d+)?f", literal)
        assert "." in literal or "e" in literal
        assert struct.pack("<f", np.float32(literal[:-1])) == struct.pack("<f", value)


def test_table_is_flat_and_counted():
    assert table("X", [[1.0, 2.5]], "note") == (
        "/* note */\nstatic const float X[2] = {\n    1.0f, 2.5f};"
    )
