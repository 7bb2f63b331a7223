"""Each randomisation of an arm changes what it says, by what it drew, in its own environment."""

from dataclasses import replace
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace
from typing import Any

import mujoco
import numpy as np
import pytest

from alula.errors import AlulaError
from alula.presets import ARM_RANDOMIZED
from alula.robots.arm import load_arm
from alula.sim.arm_config import ArmRandomization, ArmSimConfig
from alula.sim.mujoco.arm import MujocoArm
from alula.tasks import lift

look: Any = SimpleNamespace(**run_path(str(Path(__file__).with_name("one_joint.py"))))
N = 64
H = 0.001
"""Physics step [s]."""


def simulate(
    random: ArmRandomization, action: str = "joint_torque", n: int = N, **arm: str
) -> MujocoArm:
    config = ArmSimConfig(
        noise=0.0, action=action, action_scale=1.0, control_dt=H, substeps=1,  # type: ignore[arg-type]
        episode_steps=100_000, randomization=random,
    )  # fmt: skip
    simulator = MujocoArm(look.make_arm(**arm), look, config, n)
    simulator.reset(0)
    return simulator


def drawn(simulator: MujocoArm, setting: str, width: float) -> np.ndarray:
    """Factors of the one joint (N), which fill their range."""
    factor = simulator._randomizer.factors[setting][:, 0]
    assert 1 - width <= factor.min() < 1 - 0.8 * width
    assert 1 + 0.8 * width < factor.max() <= 1 + width
    return factor


def speed_after(simulator: MujocoArm, action: float, steps: int) -> np.ndarray:
    for _ in range(steps):
        simulator.step(np.full((simulator.n_envs, 1), action, np.float32))
    return simulator.scene.joint_velocity[:, 0]


def test_armature() -> None:
    simulator = simulate(ArmRandomization(armature=0.5), joint='armature="0.4"')
    f = drawn(simulator, "armature", 0.5)
    # qd = h tau / (I + armature)
    np.testing.assert_allclose(speed_after(simulator, 1.0, 1), H * 3 / (0.6 + 0.4 * f), rtol=1e-12)


def test_mass_and_what_follows_from_it() -> None:
    simulator = simulate(ArmRandomization(mass=0.3), joint='armature="0.4"')
    f = drawn(simulator, "mass", 0.3)
    np.testing.assert_allclose(speed_after(simulator, 1.0, 1), H * 3 / (0.4 + 0.6 * f), rtol=1e-12)
    batch, cube = simulator._physics._batch, simulator._randomizer.factors["mass"][:, 1]  # type: ignore[attr-defined]
    for i in (0, 7, 63):
        model = batch.get_model(i)
        link, box = model.body("link"), model.body("object")
        assert link.mass[0] == pytest.approx(2 * f[i])
        np.testing.assert_allclose(link.inertia, 0.1 * f[i])
        assert box.mass[0] == pytest.approx(cube[i])
        # set_const: what MuJoCo derives from mass and armature
        assert model.body_subtreemass[0] == pytest.approx(2 * f[i] + cube[i])
        assert model.dof_invweight0[0] == pytest.approx(1 / (0.4 + 0.6 * f[i]))
    assert len(np.unique(np.round(f, 6))) == N


def test_gravity_is_compensated_for_the_mass_that_is_known() -> None:
    simulator = simulate(
        ArmRandomization(mass=0.3), axis="0 1 0", link='gravcomp="1"', joint='actuatorgravcomp="true"'
    )  # fmt: skip
    f = drawn(simulator, "mass", 0.3)
    # the link is level: gravity turns it down, about +y, with (f - 1) 2 kg 9.81 0.5 m
    np.testing.assert_allclose(
        speed_after(simulator, 0.0, 1), H * (f - 1) * 9.81 / (0.6 * f), rtol=1e-9, atol=1e-15
    )


def test_damping() -> None:
    simulator = simulate(ArmRandomization(damping=0.5), joint='damping="40"')
    f = drawn(simulator, "damping", 0.5)
    # after 13 of the slowest's time constants, 0.6 / 20 = 0.03 s: qd = tau / damping
    np.testing.assert_allclose(speed_after(simulator, 1.0, 400), 3 / (40 * f), rtol=1e-5)


def test_frictionloss() -> None:
    simulator = simulate(ArmRandomization(frictionloss=0.5), joint='frictionloss="1"')
    f = drawn(simulator, "frictionloss", 0.5)
    before = speed_after(simulator, 1.0, 200)
    # slipping: qdd = (tau - loss) / I
    gained = speed_after(simulator, 1.0, 100) - before
    np.testing.assert_allclose(gained, 0.1 * (3 - f) / 0.6, rtol=1e-6)
    simulator.reset(0)
    # 0.3 N m is less than any loss: it sticks but for the constraint's softness
    assert np.abs(speed_after(simulator, 0.1, 500)).max() < 0.02


def test_gain_of_a_motor() -> None:
    simulator = simulate(ArmRandomization(gain=0.2))
    f = drawn(simulator, "gain", 0.2)
    np.testing.assert_allclose(speed_after(simulator, 1.0, 1), H * 3 * f / 0.6, rtol=1e-12)


def test_gain_of_a_servo_is_its_stiffness_and_damping() -> None:
    simulator = simulate(ArmRandomization(gain=0.2), "joint_position_delta", servo='kp="10" kv="2"')
    f = drawn(simulator, "gain", 0.2)
    # target 0.001 s * 2 rad/s; implicit in the damping: qd = h kp f u / (I + h kv f)
    expected = H * 10 * f * 0.002 / (0.6 + H * 2 * f)
    np.testing.assert_allclose(speed_after(simulator, 1.0, 1), expected, rtol=1e-9)


def test_friction_decides_what_slides() -> None:
    # Gravity is turned by atan(0.5): the floor is a slope on which friction 0.5 just holds.
    g, slope = 9.81, np.arctan(0.5)
    turned = f"{g * np.sin(slope)} 0 {-g * np.cos(slope)}"
    simulator = simulate(ArmRandomization(friction=0.3), n=24, gravity=turned)
    mu = 0.5 * drawn(simulator, "friction", 0.3)
    speed_after(simulator, 0.0, 500)
    moved = simulator.scene.sensor["object_position_w"][:, 0]
    # slides where mu < tan(slope), with g (sin - mu cos); margins for contacts that give
    slides, holds = mu < 0.48, mu > 0.52
    assert min(slides.sum(), holds.sum()) > 5
    way = 0.5 * g * (np.sin(slope) - mu * np.cos(slope)) * 0.5**2
    np.testing.assert_allclose(moved[slides], way[slides], rtol=0.05, atol=0.002)
    assert np.abs(moved[holds]).max() < 0.002


def test_lag_and_delay_fill_their_ranges_and_are_told_to_the_critic() -> None:
    random = ArmRandomization(actuator_lag=(0.01, 0.05), actuator_delay=(0.002, 0.006))
    simulator = simulate(random)
    lag, delay = simulator._randomizer.lag[:, 0], simulator._randomizer.delay[:, 0]
    assert 0.01 <= lag.min() < 0.012
    assert 0.047 < lag.max() <= 0.05
    assert set(np.round(delay / H)) == {2, 3, 4, 5, 6}
    np.testing.assert_allclose(simulator._randomizer.privileged, 50 * np.stack([lag, delay], 1), rtol=1e-6)  # fmt: skip
    speed_after(simulator, 1.0, 16)
    # 16 steps, the first `delay` of them without the command: a = 3 (1 - exp(-t / lag))
    expected = 3 * (1 - np.exp(-(0.016 - delay) / lag))
    np.testing.assert_allclose(simulator._physics.act[:, 0], expected, rtol=1e-9)


def test_an_episode_that_begins_draws_for_itself_alone() -> None:
    simulator = MujocoArm(
        load_arm("panda"), lift, ArmSimConfig(randomization=ARM_RANDOMIZED, episode_steps=50), 6
    )
    simulator.reset(0)
    simulator._steps[:2] = 49
    fields = {k: v.copy() for k, v in simulator._randomizer._fields.items()}
    t = simulator.step(np.zeros((6, 8), np.float32))
    assert t.truncated.tolist() == [True] * 2 + [False] * 4
    for name, before in fields.items():
        now = simulator._randomizer._fields[name]
        np.testing.assert_array_equal(now[2:], before[2:])
        if name != "actuator_delay":  # three values only: the same may come again
            assert (now[:2] != before[:2]).any(), name
    changed = (t.privileged != t.final_privileged).any(axis=1)
    assert changed.tolist() == [True] * 2 + [False] * 4


def test_nothing_is_drawn_where_nothing_is_asked_for() -> None:
    simulator = simulate(ArmRandomization())
    assert not simulator._randomizer._fields
    assert not simulator._randomizer.privileged.any()
    model = simulator._physics._batch.get_model(3)  # type: ignore[attr-defined]
    assert model.body_mass[1] == 2.0


def test_what_the_model_lacks_is_not_drawn() -> None:
    # one joint without armature and damping; a free body's joints have neither
    simulator = simulate(ArmRandomization(armature=0.5, damping=0.5, mass=0.2, frictionloss=0.1))
    sizes = {k: v.shape[1] for k, v in simulator._randomizer.factors.items()}
    assert sizes == {"mass": 2, "damping": 0, "armature": 0, "frictionloss": 0}


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ({"mass": 1.0}, "randomization mass is 1.0; allowed: 0 to 0.99"),
        ({"gain": float("nan")}, "randomization gain is nan"),
        ({"actuator_lag": (0.2, 0.1)}, "randomization actuator_lag is 0.2; allowed: 0 to 0.1"),
        ({"actuator_delay": (0.0, 0.5)}, "actuator_delay is 0.5; allowed: 0 to 0.1"),
        ({"observation_delay_steps": (0, 9)}, "observation_delay_steps"),
    ],
)
def test_ranges_that_are_none_are_refused(setting: dict, text: str) -> None:
    with pytest.raises(AlulaError, match=text):
        ArmRandomization(**setting)


def test_the_world_s_model_stays_as_it_was() -> None:
    simulator = simulate(replace(ARM_RANDOMIZED, observation_delay_steps=(0, 0)))
    assert simulator.model.body("link").mass[0] == 2.0
    assert mujoco.mj_getTotalmass(simulator.model) == pytest.approx(3.0)
