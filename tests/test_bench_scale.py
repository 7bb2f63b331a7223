"""The model of many workers, and what `alula bench scale` says."""

import json
import os
from dataclasses import replace

import pytest

from alula import bench_scale as module
from alula.bench_scale import bench_scale, fit_messages, modelled, scale_text
from alula.errors import AlulaError
from alula.presets import get_preset
from alula.training.config import PpoConfig


def test_the_fit_finds_what_messages_were_made_of() -> None:
    alpha, beta = 50e-6, 0.5e-9
    messages = {4**k: 2.0 * alpha + beta * 4**k for k in range(1, 12)}
    assert fit_messages(messages) == pytest.approx((alpha, beta))
    # a machine cannot be faster than at once
    assert fit_messages({4: 1e-4, 4_000_000: 1e-5})[1] == 0.0


def test_the_model_by_hand() -> None:
    # one message of 1000 bytes: t(W) = 1 + 2 (W - 1) 0.01 + 1000 * 0.0001
    table = {row["workers"]: row for row in modelled(1.0, 500, [1000], 0.01, 1e-4)}
    assert list(table) == [2, 4, 8, 16, 32, 64]
    assert table[2]["env_steps_per_s"] == pytest.approx(2 * 500 / (1.0 + 0.02 + 0.1))
    assert table[4]["env_steps_per_s"] == pytest.approx(4 * 500 / (1.0 + 0.06 + 0.1))
    assert table[4]["speed_up"] == pytest.approx(4 / 1.16)
    assert table[4]["share_of_messages"] == pytest.approx(0.16 / 1.16)
    # messages that cost nothing: as many times faster as there are workers
    assert modelled(1.0, 500, [1000], 0.0, 0.0)[-1]["speed_up"] == 64.0


def test_what_is_refused(monkeypatch) -> None:
    with pytest.raises(AlulaError, match="allowed: one that learns by PPO"):
        bench_scale(get_preset("l2f-hover"), repeats=1)
    with pytest.raises(AlulaError, match="repeats is 0"):
        bench_scale(get_preset("panda-reach"), repeats=0)
    monkeypatch.setattr(module.os, "sched_getaffinity", lambda _: {3})
    with pytest.raises(AlulaError, match="at least two"):
        bench_scale(get_preset("panda-reach"), repeats=1)


@pytest.mark.slow
def test_two_workers_are_measured_beside_one() -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one core")
    preset = get_preset("crazyflie-hover-ppo")
    assert isinstance(preset.algo, PpoConfig)
    before = os.sched_getaffinity(0)
    data = json.loads(
        json.dumps(bench_scale(replace(preset, algo=replace(preset.algo, n_envs=32)), repeats=2))
    )
    assert os.sched_getaffinity(0) == before
    assert data["sizes"]["n_envs"] == 32
    assert data["one_worker"]["env_steps_per_s"] > 0.0
    assert list(data["speed_up"]) == list(module.TWO)
    assert data["one_worker"]["times_one"] == 1.0
    for name, speed_up in data["speed_up"].items():
        row = data[name]
        assert row["times_one_lower_quartile"] <= speed_up <= row["times_one_upper_quartile"]
        # of pairs of updates, and of the fastest and the slowest of each
        one = data["one_worker"]
        assert speed_up <= row["env_steps_per_s_max"] / one["env_steps_per_s_min"]
        assert speed_up >= row["env_steps_per_s_min"] / one["env_steps_per_s_max"]
    messages = data["messages"]
    # epochs x minibatches gradients, a loss and divergence an epoch, one for the statistics, and seven of means and
    # spreads: two of each normaliser but the actor's known columns, and two of the advantages
    algo = preset.algo
    assert messages["of_an_update"] >= algo.epochs * algo.minibatches + algo.epochs + 1
    assert messages["largest_bytes"] > 4 * 64 * 64
    assert data["model"]["measured"] is False
    assert "not measured" in scale_text(data)
