"""Adam by hand and against torch."""

import numpy as np
import pytest
import torch

from alula.training.adam import Adam


def test_two_steps_by_hand() -> None:
    adam, x = Adam(1, (0.8, 0.95)), np.zeros(1, np.float32)
    # g = 1: m = 0.2, v = 0.05; corrected both 1: x = -0.1
    adam.step(x, np.ones(1, np.float32), 0.1)
    assert x[0] == pytest.approx(-0.1, rel=1e-6)
    # g = -2: m = 0.16 - 0.4 = -0.24, v = 0.0475 + 0.2 = 0.2475; corrected -0.24 / 0.36 = -2/3 and
    # 0.2475 / 0.0975 = 2.5384615; x = -0.1 + 0.1 * 0.6666667 / 1.5932550 = -0.0581569
    adam.step(x, np.full(1, -2.0, np.float32), 0.1)
    assert x[0] == pytest.approx(-0.0581569, abs=1e-7)
    assert adam.first[0] == pytest.approx(-0.24, rel=1e-6)
    assert adam.second[0] == pytest.approx(0.2475, rel=1e-6)
    assert adam.steps == 2


def test_a_rate_for_each_parameter() -> None:
    adam, x = Adam(3, (0.9, 0.99)), np.zeros(3, np.float32)
    adam.step(x, np.array([5.0, -0.01, 2.0], np.float32), np.array([0.1, 0.2, 0.0]))
    # the first step has the length of the rate, whatever the gradient
    np.testing.assert_allclose(x, [-0.1, 0.2, 0.0], rtol=1e-5)


def test_a_zero_gradient_moves_nothing() -> None:
    adam, x = Adam(2, (0.9, 0.99)), np.ones(2, np.float32)
    adam.step(x, np.zeros(2, np.float32), 0.1)
    np.testing.assert_array_equal(x, 1.0)


def test_against_torch() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=50).astype(np.float32)
    parameter = torch.nn.Parameter(torch.tensor(x, dtype=torch.float64))
    adam = Adam(50, (0.8, 0.95))
    reference = torch.optim.Adam([parameter], lr=0.01, betas=(0.8, 0.95), eps=1e-8)
    for k in range(40):
        gradient = (rng.normal(size=50) * 10.0 ** rng.uniform(-4, 1, 50)).astype(np.float32)
        reference.param_groups[0]["lr"] = rate = 0.01 * (1.0 - k / 50)
        parameter.grad = torch.tensor(gradient, dtype=torch.float64)
        reference.step()
        adam.step(x, gradient, rate)
    np.testing.assert_allclose(x, parameter.detach().numpy(), rtol=1e-5, atol=2e-6)
