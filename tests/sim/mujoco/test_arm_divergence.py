"""What becomes of an arm whose integration diverges: told, counted, begun anew, and nobody else notices."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from alula.errors import AlulaError
from alula.robots.arm import load_arm
from alula.sim.arm_config import ArmRandomization, ArmSimConfig
from alula.sim.mujoco.arm import MujocoArm
from alula.tasks import lift, reach
from alula.training.config import PpoConfig
from alula.training.learner import Spaces

CONFIG = ArmSimConfig(
    randomization=ArmRandomization(actuator_lag=(0.01, 0.01), actuator_delay=(0.01, 0.01))
)


def make(**settings) -> MujocoArm:
    simulator = MujocoArm(load_arm("panda"), lift, CONFIG, 4, threads=2, **settings)
    simulator.reset(0)
    return simulator


def still(simulator: MujocoArm) -> np.ndarray:
    return np.zeros((simulator.n_envs, simulator.n_actions), np.float32)


@pytest.mark.parametrize(
    ("field", "value"),
    [("qpos", np.nan), ("qpos", 1e6), ("qvel", np.inf), ("qvel", -1e9), ("act", np.nan)],
)
def test_it_is_told_counted_and_begun_anew(field: str, value: float) -> None:
    simulator, twin = make(), make()
    for _ in range(61):
        simulator.step(still(simulator))
        twin.step(still(twin))
    getattr(simulator._physics, field)[3] = value
    t, other = simulator.step(still(simulator)), twin.step(still(twin))
    assert simulator.diverged == 1
    # 62 steps of 0.02 s
    assert simulator.last_divergence == "environment 3 at 1.24 s"
    assert t.terminated.tolist() == [False, False, False, True]
    assert t.reward[3] == 0.0
    for x, y in (
        (t.observation, other.observation), (t.privileged, other.privileged),
        (t.final_observation, other.final_observation), (t.reward, other.reward),
    ):  # fmt: skip
        assert np.isfinite(x).all()
        np.testing.assert_array_equal(x[:3], y[:3])
    for _ in range(50):
        assert np.isfinite(simulator.step(still(simulator)).privileged).all()
    assert simulator.diverged == 1


def test_without_auto_reset_it_rests_at_home() -> None:
    simulator = make(auto_reset=False)
    simulator._physics.qvel[1] = np.nan
    t = simulator.step(still(simulator))
    assert t.terminated.tolist() == [False, True, False, False]
    for _ in range(10):
        t = simulator.step(still(simulator))
    assert not t.terminated.any()
    np.testing.assert_allclose(simulator.scene.joint_position[1], simulator.robot.home, atol=1e-4)


def test_strict_ends_in_an_error_that_names_environment_and_time() -> None:
    simulator = make(strict=True)
    for _ in range(4):
        simulator.step(still(simulator))
    simulator._physics.qpos[2, 0] = np.nan
    with pytest.raises(AlulaError) as error:
        simulator.step(still(simulator))
    assert str(error.value).startswith(
        "the simulation of 'panda' diverged: environment 2 at 0.10 s; allowed: "
    )
    assert "\n" not in str(error.value)


def test_a_reset_forgets_the_count() -> None:
    simulator = make()
    simulator._physics.qvel[0] = np.nan
    simulator.step(still(simulator))
    simulator.reset(1)
    assert (simulator.diverged, simulator.last_divergence) == (0, "")


def too_stiff(spec) -> None:
    """Explicit integration of servos that it cannot hold."""
    spec.option.integrator = 0
    for actuator in spec.actuators:
        actuator.gainprm[0] *= 100.0
        actuator.biasprm[1:3] *= 100.0
    for joint in spec.joints:
        joint.actfrclimited = 0


def test_unstable_physics_blows_up_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = replace(ArmSimConfig(), substeps=1)
    simulator = MujocoArm(load_arm("panda"), lift, config, 6, edit=too_stiff)
    simulator.reset(0)
    rng = np.random.default_rng(0)
    for _ in range(60):
        t = simulator.step(rng.uniform(-1, 1, (6, 8)))
        for array in (t.observation, t.privileged, t.final_privileged, t.reward):
            assert np.isfinite(array).all()
    assert simulator.diverged > 0
    assert simulator.last_divergence.startswith("environment ")
    # MuJoCo would write its warnings into a file here
    assert not list(tmp_path.iterdir())


def test_a_training_that_meets_divergence_counts_it_and_goes_on() -> None:
    ppo = pytest.importorskip("alula.training.ppo", reason="torch is not installed")
    config = replace(ArmSimConfig(), substeps=1)
    simulator = MujocoArm(load_arm("ur5e"), reach, config, 8, edit=too_stiff)
    settings = PpoConfig(n_envs=8, updates=3, rollout_steps=32, epochs=1, minibatches=1)
    learner = ppo.PpoLearner(simulator, settings, 0, Spaces(n_actions=6))
    statistics = [learner.update() for _ in range(3)]
    assert learner.diverged == simulator.diverged > 0
    # in the log they are failures; those of the steps before the first update are in no row
    assert 0 < sum(s.failed for s in statistics) * 8 * 32 <= simulator.diverged
    assert all(np.isfinite([s.cost, s.value_loss, s.std]).all() for s in statistics)
