"""What every simulator of a multirotor must do beside the checks of test_protocol.py: the flights' own numbers."""

from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest

from alula.build import SimName, build_simulator
from alula.errors import AlulaError
from alula.robots.multirotor import Multirotor, load_robot
from alula.sim.config import Disturbances, Limits, Randomization, SimConfig, Start
from alula.sim.protocol import Simulator
from alula.tasks import hover, track

QUIET = SimConfig(
    noise=0.0,
    start=Start(
        position=0.0, tilt=0.0, velocity=0.0, angular_velocity=0.0, rotor_fraction=-1.0, at_rest=1.0
    ),
    disturbances=Disturbances(force=0.0, torque=0.0, gust=0.0),
)
"""No noise, no disturbance, every episode at rest on the reference."""

WILD = SimConfig(
    randomization=Randomization(
        mass=0.2, inertia=0.2, thrust=0.25, rotor=0.1, lag=0.4, torque=0.2, drag=0.3,
        action_delay_steps=(0, 2), observation_delay_steps=(0, 2),
    ),
    disturbances=Disturbances(force=0.05, torque=1e-4, gust=0.05),
)  # fmt: skip
"""Everything random at once."""


class SimulatorContract:
    """Subclasses name the simulator in `kind`."""

    kind: SimName

    def make(
        self,
        config: SimConfig = QUIET,
        n: int = 6,
        *,
        robot: Multirotor | None = None,
        task: ModuleType = hover,
        auto_reset: bool = True,
        trajectories: np.ndarray | None = None,
    ) -> Simulator:
        return build_simulator(
            self.kind,
            robot or load_robot("crazyflie-l2f"),
            task,
            config,
            n,
            trajectories=trajectories,
            auto_reset=auto_reset,
        )

    @pytest.mark.parametrize("task", [hover, track], ids=["hover", "track"])
    def test_shapes_and_types(self, task: ModuleType) -> None:
        simulator = self.make(WILD, 5, task=task)
        observed = sum(e.size for e in task.ENTRIES) + 32 * 4
        observation = simulator.reset(1)
        assert simulator.n_envs == 5
        assert observation.shape == (5, observed)
        assert observation.dtype == np.float32
        t = simulator.step(np.zeros((5, 4), np.float32))
        assert t.observation.shape == t.final_observation.shape == (5, observed)
        assert t.privileged.shape == t.final_privileged.shape
        assert t.privileged.shape[0] == 5
        assert t.reward.shape == t.terminated.shape == t.truncated.shape == (5,)
        for array in (t.observation, t.privileged, t.final_observation, t.reward):
            assert array.dtype == np.float32
            assert np.isfinite(array).all()
        assert t.terminated.dtype == t.truncated.dtype == np.bool_
        s = simulator.state()
        assert s.position_w.shape == s.velocity_w.shape == s.angular_velocity_b.shape == (5, 3)
        assert s.reference_position_w.shape == (5, 3)
        assert s.quat_wb.shape == s.rotor_fraction.shape == (5, 4)

    def test_same_seed_is_bitwise_the_same_flight(self) -> None:
        a, b = (_fly(self.make(WILD, 20, task=track), seed=7) for _ in range(2))
        assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))

    def test_huge_seeds_stay_distinct(self) -> None:
        simulator = self.make(WILD, 20)
        a, b = simulator.reset(5), simulator.reset((0xE7A1 << 64) | 5)
        assert np.abs(a[:, :18] - b[:, :18]).max() > 0.1

    def test_at_rest_on_the_reference(self) -> None:
        simulator = self.make()
        observation = simulator.reset(0)
        robot = load_robot("crazyflie-l2f")
        level = [0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]
        np.testing.assert_allclose(observation[:, :18], np.tile(level, (6, 1)), atol=1e-7)
        np.testing.assert_allclose(observation[:, 18:], robot.hover_action, rtol=1e-6)
        np.testing.assert_allclose(
            simulator.state().rotor_fraction, robot.hover_throttle, rtol=1e-6
        )

    def test_hover_action_hovers(self) -> None:
        robot = load_robot("crazyflie-l2f")
        simulator = self.make()
        simulator.reset(0)
        for _ in range(100):
            t = simulator.step(np.full((6, 4), robot.hover_action, np.float32))
        s = simulator.state()
        # float32 rounding of the hover thrust leaves some 1e-6 m/s^2
        assert np.abs(s.position_w).max() < 1e-4
        assert np.abs(s.velocity_w).max() < 1e-4
        # cost at rest on the reference at hover is zero, so the reward is one
        np.testing.assert_allclose(t.reward, 1.0, atol=1e-5)

    def test_starts_fill_their_ranges_and_no_more(self) -> None:
        start = Start(position=0.3, tilt=0.5, velocity=0.7, angular_velocity=0.9, at_rest=0.25)
        simulator = self.make(replace(QUIET, start=start), 2000)
        simulator.reset(3)
        s = simulator.state()
        for value, bound in (
            (s.position_w, 0.3), (s.velocity_w, 0.7), (s.angular_velocity_b, 0.9),
        ):  # fmt: skip
            assert 0.98 * bound < np.abs(value).max() <= bound * (1 + 1e-6)
        tilt = 2.0 * np.arccos(np.clip(np.abs(s.quat_wb[:, 0]), 0.0, 1.0))
        assert 0.48 < tilt.max() <= 0.5 + 1e-3
        rest = (s.position_w == 0.0).all(axis=1)
        # 2000 draws of probability 0.25: standard deviation 0.0097
        assert abs(rest.mean() - 0.25) < 0.04
        assert not s.velocity_w[rest].any()
        assert (s.rotor_fraction[~rest] == 0.5).all()

    def test_tracking_starts_around_the_moving_reference(self) -> None:
        rows = np.array([track.figure_eight(2.0, 1.0, 5.5, height=0.4)])
        simulator = self.make(QUIET, 3, task=track, trajectories=rows)
        observation = simulator.reset(0)
        s = simulator.state()
        # x = 1 sin(w t), y = 0.5 sin(2 w t), w = 2 pi / 5.5: at t = 0 both move at w
        w = 2 * np.pi / 5.5
        np.testing.assert_allclose(s.position_w, np.tile([0, 0, 0.4], (3, 1)), atol=5e-6)
        np.testing.assert_allclose(s.velocity_w, np.tile([w, w, 0], (3, 1)), rtol=1e-5, atol=5e-6)
        np.testing.assert_allclose(observation[:, 0:3], 0.0, atol=1e-6)
        # first preview: x(0.1) = sin(0.1 w)
        np.testing.assert_allclose(observation[:, 18], np.sin(0.1 * w), rtol=1e-5)

    def test_reference_moves_with_time(self) -> None:
        rows = np.array([track.figure_eight(2.0, 1.0, 5.5)])
        simulator = self.make(QUIET, 2, task=track, trajectories=rows)
        simulator.reset(0)
        for _ in range(30):
            simulator.step(np.zeros((2, 4), np.float32))
        # x(0.3 s) = sin(2 pi 0.3 / 5.5) = 0.33605
        np.testing.assert_allclose(simulator.state().reference_position_w[:, 0], 0.33605, atol=1e-4)

    def test_history_holds_the_clipped_actions_oldest_first(self) -> None:
        simulator = self.make(replace(QUIET, history=3), 2)
        hover_action = load_robot("crazyflie-l2f").hover_action
        simulator.reset(0)
        simulator.step(np.full((2, 4), 0.25, np.float32))
        t = simulator.step(np.full((2, 4), 7.0, np.float32))
        past = t.observation[:, 18:].reshape(2, 3, 4)
        np.testing.assert_allclose(past[:, 0], hover_action, rtol=1e-6)
        np.testing.assert_allclose(past[:, 1], 0.25)
        np.testing.assert_allclose(past[:, 2], 1.0)

    def test_without_history_the_observation_is_the_task_rows(self) -> None:
        assert self.make(replace(QUIET, history=0), 2).reset(0).shape == (2, 18)

    @pytest.mark.parametrize("delay", [0, 1, 3])
    def test_action_delay_in_steps(self, delay: int) -> None:
        config = replace(QUIET, randomization=Randomization(action_delay_steps=(delay, delay)))
        simulator = self.make(config, 2)
        simulator.reset(0)
        first = simulator.state().rotor_fraction.copy()
        moved = []
        for _ in range(5):
            simulator.step(np.ones((2, 4), np.float32))
            moved.append(bool(np.abs(simulator.state().rotor_fraction - first).max() > 1e-4))
        # the first action reaches the rotors in step `delay`, counted from zero
        assert moved == [k >= delay for k in range(5)]

    @pytest.mark.parametrize("delay", [0, 2])
    def test_observation_delay_in_steps(self, delay: int) -> None:
        config = replace(QUIET, randomization=Randomization(observation_delay_steps=(delay, delay)))
        simulator = self.make(config, 2)
        simulator.reset(0)
        heights, seen = [0.0], []
        for _ in range(6):
            t = simulator.step(np.ones((2, 4), np.float32))
            heights.append(float(simulator.state().position_w[0, 2]))
            seen.append(float(t.observation[0, 2]))
        expected = [heights[max(0, k - delay)] for k in range(1, 7)]
        np.testing.assert_allclose(seen, expected, rtol=1e-5, atol=1e-9)
        assert heights[-1] > 1e-3

    def test_noise_has_the_robots_standard_deviations(self) -> None:
        robot = load_robot("crazyflie-l2f")
        simulator = self.make(replace(QUIET, noise=2.0), 4000)
        observation = simulator.reset(5)
        level = np.array([0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0], np.float32)
        std = (observation[:, :18] - level).std(axis=0)
        expected = 2.0 * np.repeat(
            [robot.position_noise, robot.orientation_noise, robot.velocity_noise,
             robot.angular_velocity_noise], [3, 9, 3, 3],
        )  # fmt: skip
        # 4000 draws: relative standard error 1.1 %
        np.testing.assert_allclose(std, expected, rtol=0.06)
        t = simulator.step(np.full((4000, 4), robot.hover_action, np.float32))
        assert np.abs(t.observation[:, :18] - observation[:, :18]).max() > 1e-3

    def test_constant_force_has_its_standard_deviation(self) -> None:
        robot = load_robot("crazyflie-l2f")
        config = replace(QUIET, disturbances=Disturbances(force=0.05, torque=0.0))
        simulator = self.make(config, 4000)
        simulator.reset(2)
        for _ in range(20):
            simulator.step(np.full((4000, 4), robot.hover_action, np.float32))
        # v = f t / m with f ~ N(0, 0.05 m g): 0.05 * 9.81 * 0.2 s = 0.0981 m/s
        np.testing.assert_allclose(simulator.state().velocity_w.std(axis=0), 0.0981, rtol=0.05)

    def test_constant_torque_has_its_standard_deviation(self) -> None:
        robot = load_robot("crazyflie-l2f")
        config = replace(QUIET, disturbances=Disturbances(force=0.0, torque=1e-4))
        simulator = self.make(config, 4000)
        simulator.reset(2)
        for _ in range(5):
            simulator.step(np.full((4000, 4), robot.hover_action, np.float32))
        # w_z = tau t / J_z: 1e-4 * 0.027 * 9.81 * 0.05 s / 5.9675e-6 = 0.2219 rad/s
        std = simulator.state().angular_velocity_b[:, 2].std()
        np.testing.assert_allclose(std, 0.2219, rtol=0.05)

    def test_gust_is_correlated_over_its_time(self) -> None:
        robot = load_robot("crazyflie-l2f")
        config = replace(
            QUIET, disturbances=Disturbances(force=0.0, torque=0.0, gust=0.05, gust_time=0.1),
        )  # fmt: skip
        simulator = self.make(config, 4000)
        simulator.reset(2)
        velocity = [simulator.state().velocity_w.copy()]
        for _ in range(21):
            simulator.step(np.full((4000, 4), robot.hover_action, np.float32))
            velocity.append(simulator.state().velocity_w.copy())
        force = np.diff(np.array(velocity), axis=0) / 0.01 / 9.81
        np.testing.assert_allclose(force.std(axis=(1, 2)), 0.05, rtol=0.05)
        # correlation exp(-t / time) at t = 0.1 s is 1/e = 0.368
        correlation = np.mean(force[10] * force[20]) / 0.05**2
        assert abs(correlation - 0.368) < 0.05

    def test_time_limit_truncates_and_resets(self) -> None:
        simulator = self.make(replace(QUIET, episode_steps=3, start=Start(at_rest=0.0)), 4)
        simulator.reset(0)
        hover_action = load_robot("crazyflie-l2f").hover_action
        for step in range(7):
            t = simulator.step(np.full((4, 4), hover_action, np.float32))
            ends = step in (2, 5)
            assert t.truncated.tolist() == [ends] * 4
            assert not t.terminated.any()
            changed = np.abs(t.final_observation[:, :18] - t.observation[:, :18]).max() > 1e-3
            assert changed == ends
            if ends:
                np.testing.assert_allclose(t.observation[:, 18:], hover_action, rtol=1e-6)
                np.testing.assert_allclose(
                    simulator.state().position_w, t.observation[:, :3], atol=1e-6
                )

    @pytest.mark.parametrize(
        ("limits", "action"),
        [
            (Limits(position=0.05), [1.0, 1.0, 1.0, 1.0]),
            (Limits(velocity=0.2), [1.0, 1.0, 1.0, 1.0]),
            (Limits(angular_velocity=2.0), [1.0, 1.0, 0.0, 0.0]),
        ],
        ids=["position", "velocity", "angular_velocity"],
    )
    def test_limits_terminate_for_good(self, limits: Limits, action: list[float]) -> None:
        simulator = self.make(replace(QUIET, limits=limits), 2, auto_reset=False)
        simulator.reset(0)
        failed, excess = [], []
        for _ in range(60):
            t = simulator.step(np.array([action] * 2, np.float32))
            s = simulator.state()
            failed.append(bool(t.terminated[0]))
            excess.append(
                max(
                    np.abs(s.position_w).max() / limits.position,
                    np.abs(s.velocity_w).max() / limits.velocity,
                    np.abs(s.angular_velocity_b).max() / limits.angular_velocity,
                )
                > 1.0
            )
        first = failed.index(True)
        assert first == excess.index(True)
        assert all(failed[first:])

    def test_termination_resets_only_the_failed(self) -> None:
        simulator = self.make(replace(QUIET, limits=Limits(velocity=0.2)), 2)
        simulator.reset(0)
        hover_action = load_robot("crazyflie-l2f").hover_action
        action = np.array([[1.0] * 4, [hover_action] * 4], np.float32)
        for _ in range(60):
            t = simulator.step(action)
            if t.terminated[0]:
                break
        assert t.terminated.tolist() == [True, False]
        assert t.final_observation[0, 14] > 0.19
        assert t.observation[0, 14] == pytest.approx(0.0, abs=1e-6)
        np.testing.assert_array_equal(t.final_observation[1], t.observation[1])

    def test_refuses_trajectories_of_another_shape(self) -> None:
        with pytest.raises(AlulaError, match="trajectories have shape"):
            self.make(task=track, trajectories=np.zeros((2, 17)))


def _fly(simulator: Simulator, seed: int) -> list[np.ndarray]:
    """Observations, rewards and ends of 60 steps of random actions."""
    rng = np.random.default_rng(0)
    out = [simulator.reset(seed)]
    for _ in range(60):
        t = simulator.step(rng.uniform(-1, 1, (simulator.n_envs, 4)).astype(np.float32))
        out += [t.observation, t.privileged, t.reward, t.terminated, t.final_observation]
    return out


class TestMultirotor(SimulatorContract):
    """alula's own physics."""

    kind = "multirotor"


class TestMujoco(SimulatorContract):
    """MuJoCo's physics."""

    kind = "mujoco"
