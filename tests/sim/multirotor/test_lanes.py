"""lanes.h: vector functions, and the random numbers against the published algorithm and its statistics."""

import ctypes
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from alula.sim.compile import compile_library
from alula.sim.multirotor.kernels import HERE, LANES, aligned
from alula.sim.multirotor.simulator import environment_words

MASK = 0xFFFFFFFF


@pytest.fixture(scope="module")
def c() -> ctypes.CDLL:
    return compile_library(
        Path(__file__).parent / "generator_test.c", (HERE / "lanes.h",), "/* nothing */\n"
    )


def address(array: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def words(seed: int = 3) -> np.ndarray:
    """State of 16 generators, [4, 16]."""
    out = aligned((4, LANES), np.uint32)
    out[:] = np.random.default_rng(seed).integers(1, 2**32, (4, LANES), np.uint64)
    return out


def xoshiro128pp(s: list[int]) -> int:
    """One draw, written from the published pseudo-code; moves `s` on."""

    def rotl(x: int, k: int) -> int:
        return ((x << k) | (x >> (32 - k))) & MASK

    result = (rotl((s[0] + s[3]) & MASK, 7) + s[0]) & MASK
    t = (s[1] << 9) & MASK
    s[2] ^= s[0]
    s[3] ^= s[1]
    s[1] ^= s[2]
    s[0] ^= s[3]
    s[2] ^= t
    s[3] = rotl(s[3], 11)
    return result


def test_the_reference_itself() -> None:
    # state (1, 2, 3, 4): rotl(5, 7) + 1 = 641; then s = (7, 0, 1026, 12288): rotl(12295, 7) + 7
    state = [1, 2, 3, 4]
    assert xoshiro128pp(state) == 641
    assert state == [7, 0, 1026, 12288]
    assert xoshiro128pp(state) == 12295 * 128 + 7


def test_draws_are_xoshiro(c) -> None:
    rng, out = words(), aligned((LANES,), np.uint32)
    reference = [[int(x) for x in column] for column in words().T]
    for _ in range(50):
        expected = [xoshiro128pp(s) for s in reference]
        c.draw_bits(address(rng), address(out))
        assert out.tolist() == expected
    assert rng.T.tolist() == reference


def test_uniform_draws(c) -> None:
    rng, a, b = words(), aligned((LANES,)), aligned((LANES,))
    reference = [[int(x) for x in column] for column in words().T]
    for _ in range(20):
        c.draw_uniform(address(rng), address(a), address(b))
        # the upper 24 bits: exact in float32, below one
        assert a.tolist() == [(xoshiro128pp(s) >> 8) / 2**24 for s in reference]
        assert b.tolist() == [2.0 * (xoshiro128pp(s) >> 8) / 2**24 - 1.0 for s in reference]


def test_normal_of_a_draw_by_hand(c) -> None:
    rng, a, b = words(), aligned((LANES,)), aligned((LANES,))
    states = [[int(x) for x in column] for column in words().T]
    for _ in range(20):
        bits = np.array([xoshiro128pp(s) for s in states])
        c.draw_normal(address(rng), address(a), address(b))
        radius = np.sqrt(-2.0 * np.log(((bits >> 16) + 0.5) / 65536))
        # the lowest bit chooses the half of the circle, the next fifteen the angle in it
        sign = 1.0 - 2.0 * (bits & 1)
        angle = (((bits >> 1) & 0x7FFF) - 16383.5) * np.pi / 32768
        np.testing.assert_allclose(a, sign * radius * np.sin(angle), atol=4e-5)
        np.testing.assert_allclose(b, sign * radius * np.cos(angle), atol=2e-4)


def test_normals_are_normal_and_independent(c) -> None:
    rng, n = words(), 20_000
    out = aligned((n, 2, LANES))
    for row in out:
        c.draw_normal(address(rng), address(row[0]), address(row[1]))
    x = out.astype(np.float64)
    sample = (
        x.ravel()
    )  # 640 000 numbers: standard errors 0.00125, 0.0018 (variance), 0.0061 (kurtosis)
    assert abs(sample.mean()) < 0.006
    assert abs(sample.var() - 1.0) < 0.009
    assert abs(stats.skew(sample)) < 0.015
    assert abs(stats.kurtosis(sample)) < 0.03
    assert 4.0 < np.abs(sample).max() < 4.9
    assert stats.kstest(sample[::16], "norm").pvalue > 1e-4
    # the two of a draw, one draw and the next, one lane and the next; standard error 0.0018
    flat = x.reshape(n, 2 * LANES)
    correlation = np.corrcoef(flat.T) - np.eye(2 * LANES)
    assert np.abs(correlation).max() < 0.035, (
        "between lanes and between the two, 20 000 samples each"
    )
    assert abs(np.mean(x[1:] * x[:-1])) < 0.008
    # not even their squares: a shared radius would show here
    assert abs(np.mean((x[:, 0] ** 2 - 1.0) * (x[:, 1] ** 2 - 1.0))) < 0.02


def rows(values: np.ndarray) -> np.ndarray:
    """Values as aligned rows of 16."""
    out = aligned((-(-len(values) // LANES), LANES))
    out.reshape(-1)[: len(values)] = values
    return out


def test_vector_functions(c) -> None:
    x = rows(np.linspace(-30.0, 30.0, 4096, dtype=np.float32))
    y = aligned(x.shape)
    for a, b in zip(x, y, strict=True):
        c.sine(address(a), address(b))
    # the polynomial is good to 4e-6; beside it a rounded argument of 30
    np.testing.assert_allclose(y, np.sin(x.astype(np.float64)), atol=6e-6)
    near = rows(np.linspace(-1.7, 1.7, 1024, dtype=np.float32))
    for a in near:
        c.sine(address(a), address(y[0]))
        np.testing.assert_allclose(y[0], np.sin(a.astype(np.float64)), atol=4.2e-6)
    positive = rows(np.geomspace(1e-30, 1e30, 4096).astype(np.float32))
    for a in positive:
        c.logarithm(address(a), address(y[0]))
        np.testing.assert_allclose(y[0], np.log(a.astype(np.float64)), rtol=4e-7, atol=1e-6)
    exponents = rows(np.linspace(-80.0, 80.0, 4096, dtype=np.float32))
    for a in exponents:
        c.exponential(address(a), address(y[0]))
        # a rounded argument of 80 alone is worth 4e-6
        np.testing.assert_allclose(y[0], np.exp(a.astype(np.float64)), rtol=1e-5)
        near = np.abs(a) < 1.0
        np.testing.assert_allclose(y[0][near], np.exp(a[near].astype(np.float64)), rtol=1e-6)
    c.exponential(address(rows(np.full(LANES, -1e4))[0]), address(y[0]))
    np.testing.assert_allclose(y[0], np.exp(-80.0), rtol=1e-5)
    for a in x:
        c.nearest(address(a), address(y[0]))
        np.testing.assert_array_equal(y[0], np.round(a))
    for a in positive:
        c.root(address(a), address(y[0]))
        np.testing.assert_array_equal(y[0], np.sqrt(a))


def test_choosing(c) -> None:
    x = rows(np.array([1, 2, -1, 0, -0.0, 3, 5, -5] * 2, np.float32))[0]
    z = rows(np.array([2, 1, -2, 0, 0.0, 3, np.inf, -np.inf] * 2, np.float32))[0]
    y = aligned((LANES,))
    for name, expected in (
        ("larger", np.maximum(x, z)), ("smaller", np.minimum(x, z)),
        ("choose", np.where(x > z, x, -1.0)),
    ):  # fmt: skip
        getattr(c, name)(address(x), address(z), address(y))
        np.testing.assert_array_equal(y, expected)
    # a NaN is neither: the second argument is taken
    x[:] = np.nan
    for name in ("larger", "smaller"):
        getattr(c, name)(address(x), address(z), address(y))
        np.testing.assert_array_equal(y, z)


def test_seeds_of_the_environments() -> None:
    few, many = environment_words(5, 16), environment_words(5, 4096)
    np.testing.assert_array_equal(few.ravel(), many.ravel()[: few.size])
    table = many.reshape(4096, 4)
    assert len(np.unique(table, axis=0)) == 4096
    assert table.any(axis=1).all(), "xoshiro must not start from zero"
    assert not np.array_equal(few, environment_words(6, 16))
    # every bit is set in half of the words; standard error 0.0039
    bits = np.unpackbits(table.view(np.uint8), axis=1).mean(axis=0)
    assert np.abs(bits - 0.5).max() < 0.035
