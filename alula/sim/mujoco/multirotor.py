"""The second, independent physics of a multirotor: MuJoCo behind the simulator protocol.

MuJoCo integrates the rigid body, with its own equations, integrator and a smaller step; rotor lag, delays,
sensors and disturbances are applied here in NumPy, outside the kernels of `sim.multirotor`. All environments
of a control period are stepped by one call of `mujoco.rollout`.
"""

from types import ModuleType

import numpy as np

from alula.errors import AlulaError
from alula.robots.multirotor import GRAVITY, Multirotor
from alula.sim.config import MAX_DELAY_STEPS, SimConfig
from alula.sim.mujoco.fleet import Fleet
from alula.sim.mujoco.model import flywheel_inertia, has_flywheel
from alula.sim.mujoco.rotors import RotorLag
from alula.sim.mujoco.vehicles import draw_starts, draw_vehicles
from alula.sim.multirotor.equations import Disturbance, Params, Rows, State
from alula.sim.protocol import RigidBodyState, Transition
from alula.sim.sensors import Sensed, noise_rows, sense

MAX_TIMESTEP = 0.005
"""Largest physics step [s]: RK4 at half of the other simulator's usual step, on rotors solved exactly. What
remains of the step is the thrust's centroid within it: tests/sim/mujoco bounds the difference to 0.5 ms."""


class MujocoMultirotor:
    """N flights of one robot in MuJoCo; implements `alula.sim.protocol.Simulator`.

    The order of events in a step: the action enters the delay line; the delayed action is held for one
    `control_dt`; time advances; reward and termination look at the new true state and the present reference;
    a fresh noisy measurement enters the observation's delay line.
    """

    def __init__(
        self,
        robot: Multirotor,
        task: ModuleType,
        config: SimConfig,
        n_envs: int,
        *,
        trajectories: np.ndarray | None = None,
        auto_reset: bool = True,
    ) -> None:
        """Args as `alula.build.build_simulator`."""
        if n_envs < 1:
            raise AlulaError(f"n_envs is {n_envs}; allowed: >= 1")
        self.robot, self.task, self.config, self.auto_reset = robot, task, config, auto_reset
        self._n_envs = n_envs
        self._trajectories = _check_trajectories(task, trajectories)
        self._weights = task.CostWeights().rows(robot.hover_action)
        self._noise = config.noise * np.array(
            noise_rows(
                robot.position_noise,
                robot.orientation_noise,
                robot.velocity_noise,
                robot.angular_velocity_noise,
            )
        )
        self._substeps = int(np.ceil(config.control_dt / MAX_TIMESTEP - 1e-9))
        self._timestep = config.control_dt / self._substeps
        self._fleet = Fleet(robot, n_envs, self._substeps, self._timestep)
        self._lag = RotorLag(n_envs, self._substeps, self._timestep)
        self._allocate()

    def _allocate(self) -> None:
        n, r = self._n_envs, self.robot.n_rotors
        self._force = np.zeros((n, self._substeps, self._fleet.velocity.shape[1]))
        self._rotor_fraction = np.zeros((n, r))
        self._trajectory = np.zeros((n, self.task.TRAJECTORY_SIZE))
        self._steps = np.zeros(n, np.int64)
        self._failed = np.zeros(n, bool)
        self._gust_w = np.zeros((n, 3))
        self._action = np.zeros((n, r), np.float32)
        self._queue = np.zeros((n, MAX_DELAY_STEPS + 1, r), np.float32)
        self._history = np.zeros((n, self.config.history, r), np.float32)
        self._sensed = np.zeros((n, MAX_DELAY_STEPS + 1, self._noise.size), np.float32)
        self._index = np.arange(n)
        self._started = False

    @property
    def n_envs(self) -> int:
        """Number of environments N."""
        return self._n_envs

    def reset(self, seed: int) -> np.ndarray:
        """Start all episodes anew; returns the actor observation [N, O]."""
        self._rng = np.random.default_rng(seed)
        self._vehicles = draw_vehicles(self._rng, self.robot, self.config, self._n_envs)
        self._started = True
        self._begin(self._index, self._vehicles)
        self._measure(self._index)
        return self._observe(self._reference())

    def _begin(self, rows: np.ndarray, vehicles) -> None:
        """Start new episodes with new vehicles in the environments at index `rows`."""
        robot, rng, n = self.robot, self._rng, len(rows)
        self._vehicles.put(rows, vehicles)
        self._fleet.set_vehicles(rows, self._vehicles)
        self._lag.set_lags(rows, vehicles.lag_up, vehicles.lag_down)
        if self._trajectories is not None:
            self._trajectory[rows] = self._trajectories[
                rng.integers(len(self._trajectories), size=n)
            ]
        self._steps[rows] = 0
        self._failed[rows] = False
        starts = draw_starts(rng, robot, self.config.start, n)
        reference = np.stack(self._reference(), axis=1)[rows]
        pose, twist = self._fleet.position, self._fleet.velocity
        pose[rows, 0:3] = starts.position + reference[:, 0:3]
        pose[rows, 3:7] = starts.quat_wb
        twist[rows, 0:3] = starts.velocity + reference[:, 3:6]
        twist[rows, 3:6] = starts.angular_velocity_b
        self._rotor_fraction[rows] = starts.rotor_fraction
        gust = self.config.disturbances.gust * robot.mass * GRAVITY
        self._gust_w[rows] = gust * rng.standard_normal((n, 3))
        self._action[rows] = robot.hover_action
        self._queue[rows] = robot.hover_action
        self._history[rows] = robot.hover_action

    def step(self, action: np.ndarray) -> Transition:
        """Apply actions [N, A] in [-1, 1] for one `control_dt`; see the class for the order of events."""
        shape = (self._n_envs, self.robot.n_rotors)
        if not self._started:
            raise AlulaError("step before reset; allowed: reset(seed) first")
        if np.shape(action) != shape or not np.isfinite(action).all():
            raise AlulaError(f"action has shape {np.shape(action)}; allowed: {shape}, finite")
        # a diverged flight makes infinities and NaN on its way; it is flagged, not warned about
        with np.errstate(all="ignore"):
            return self._step(np.clip(np.asarray(action, np.float32), -1.0, 1.0))

    def _step(self, action: np.ndarray) -> Transition:
        previous, self._action = self._action, action
        for buffer in (self._queue, self._history):
            if buffer.shape[1]:
                buffer[:, :-1] = buffer[:, 1:]
                buffer[:, -1] = action
        self._gust()
        self._fly()
        self._steps += 1
        reference = self._reference()
        cost = self.task.cost(
            self._state(),
            list(action.T.astype(np.float64)),
            list(previous.T.astype(np.float64)),
            self.task.Reference.from_rows(reference),
            self._weights,
        )
        self._failed |= self._outside(reference)
        terminated = self._failed.copy()
        truncated = (self._steps >= self.config.episode_steps) & ~terminated
        self._measure(self._index, push=True)
        final = self._observe(reference), self._privileged(reference)
        observation, privileged = final
        done = np.flatnonzero(terminated | truncated)
        if self.auto_reset and len(done):
            self._begin(done, draw_vehicles(self._rng, self.robot, self.config, len(done)))
            self._measure(done)
            reference = self._reference()
            observation, privileged = self._observe(reference), self._privileged(reference)
        return Transition(
            observation=observation,
            privileged=privileged,
            reward=(1.0 - cost).astype(np.float32),
            terminated=terminated,
            truncated=truncated,
            final_observation=final[0],
            final_privileged=final[1],
        )

    def state(self) -> RigidBodyState:
        """True state now, float64."""
        pose, twist = self._fleet.position, self._fleet.velocity
        return RigidBodyState(
            position_w=pose[:, 0:3].copy(),
            velocity_w=twist[:, 0:3].copy(),
            quat_wb=pose[:, 3:7].copy(),
            angular_velocity_b=twist[:, 3:6].copy(),
            rotor_fraction=self._rotor_fraction.copy(),
            reference_position_w=np.stack(self._reference()[0:3], axis=1),
        )

    def place(self, state: RigidBodyState) -> None:
        """Put the vehicles into a state; the measurement in the delay line stays the old one.

        Clocks, references, vehicles and the flags of failed episodes stay as they are.
        """
        pose, twist = self._fleet.position, self._fleet.velocity
        pose[:, 0:3] = state.position_w
        pose[:, 3:7] = state.quat_wb
        twist[:, 0:3] = state.velocity_w
        twist[:, 3:6] = state.angular_velocity_b
        self._rotor_fraction = np.array(state.rotor_fraction, np.float64)

    def _fly(self) -> None:
        """Hold the delayed action for one control period."""
        robot, v = self.robot, self._vehicles
        applied = self._queue[self._index, -1 - v.action_delay].astype(np.float64)
        span = robot.throttle_max - robot.throttle_min
        throttle = robot.throttle_min + 0.5 * (applied + 1.0) * span
        fraction, thrust = self._lag.respond(self._rotor_fraction, throttle, robot.thrust_curve)
        # the free joint's generalised force is the force in w and the torque in b
        self._force[:, :, 0:3] = (v.force_w + self._gust_w)[:, None, :]
        self._force[:, :, 3:6] = v.torque_b[:, None, :]
        if has_flywheel(robot):
            self._spin_flywheel(fraction)
        self._rotor_fraction = fraction[:, -1].copy()
        self._fleet.advance(thrust * v.thrust_scale[:, None, :], self._force)

    def _spin_flywheel(self, fraction: np.ndarray) -> None:
        """Give the flywheel the rotors' net angular momentum, and its change as the hinge's torque."""
        robot = self.robot
        # h = J_r speed_max sum(spin * fraction)
        momentum = (robot.rotor_inertia * robot.rotor_speed_max) * (
            fraction @ np.asarray(robot.rotor_spin, np.float64)
        )
        self._fleet.position[:, 7] = 0.0
        self._fleet.velocity[:, 6] = momentum[:, 0] / flywheel_inertia(robot)
        self._force[:, :, 6] = np.diff(momentum, axis=1) / self._timestep

    def _gust(self) -> None:
        """Next value of the gust force, held over the coming step."""
        d = self.config.disturbances
        if d.gust > 0.0:
            # Ornstein-Uhlenbeck, exact: f' = a f + sqrt(1 - a^2) sigma n,  a = exp(-dt / time)
            a = np.exp(-self.config.control_dt / d.gust_time)
            sigma = np.sqrt(1.0 - a * a) * d.gust * self.robot.mass * GRAVITY
            self._gust_w = a * self._gust_w + sigma * self._rng.standard_normal((self._n_envs, 3))

    def _state(self) -> State:
        pose = np.ascontiguousarray(self._fleet.position.T)
        twist = np.ascontiguousarray(self._fleet.velocity.T)
        return State(
            position_w=list(pose[0:3]),
            velocity_w=list(twist[0:3]),
            quat_wb=list(pose[3:7]),
            angular_velocity_b=list(twist[3:6]),
            rotor_fraction=list(np.ascontiguousarray(self._rotor_fraction.T)),
        )

    def _reference(self) -> list[np.ndarray]:
        time = self._steps * self.config.control_dt
        return self.task.reference(time, self._trajectory.T)

    def _outside(self, reference: Rows) -> np.ndarray:
        limits, twist = self.config.limits, self._fleet.velocity
        error = self._fleet.position[:, 0:3] - np.stack(reference[0:3], axis=1)
        # a comparison with NaN is false: a state that is not finite is outside
        inside = (
            (np.abs(error) <= limits.position).all(axis=1)
            & (np.abs(twist[:, 0:3]) <= limits.velocity).all(axis=1)
            & (np.abs(twist[:, 3:6]) <= limits.angular_velocity).all(axis=1)
            & np.isfinite(self._fleet.position).all(axis=1)
        )
        return np.logical_not(inside)

    def _measure(self, rows: np.ndarray, *, push: bool = False) -> None:
        """Take a noisy measurement: into the delay line, or (push false) filling it."""
        true = np.stack(sense(self._state()), axis=1)[rows]
        sample = true + self._noise * self._rng.standard_normal(true.shape, np.float32)
        if push:
            self._sensed[:, :-1] = self._sensed[:, 1:]
            self._sensed[:, -1] = sample
        else:
            self._sensed[rows] = sample[:, None, :]

    def _observe(self, reference: list[np.ndarray]) -> np.ndarray:
        sample = self._sensed[self._index, -1 - self._vehicles.observation_delay]
        present = self.task.observe(
            Sensed.from_rows(list(sample.T)), self.task.Reference.from_rows(reference)
        )
        past = self._history.reshape(self._n_envs, -1)
        return np.concatenate([np.stack(present, axis=1), past], axis=1, dtype=np.float32)

    def _privileged(self, reference: list[np.ndarray]) -> np.ndarray:
        v = self._vehicles
        jx, jy, jz = v.inertia.T
        params = Params(
            mass_inv=1.0 / v.mass,
            inertia_inv=[1.0 / jx, 1.0 / jy, 1.0 / jz],
            gyroscopic=[(jz - jy) / jx, (jx - jz) / jy, (jy - jx) / jz],
            thrust_curve=self.robot.thrust_curve,
            lag_up_inv=1.0 / v.lag_up,
            lag_down_inv=1.0 / v.lag_down,
            rise=np.exp(-0.5 * self._timestep / v.lag_up),
            fall=np.exp(-0.5 * self._timestep / v.lag_down),
            torque_per_thrust=v.torque_per_thrust,
            rotor_momentum=self.robot.rotor_inertia * self.robot.rotor_speed_max,
            drag_b=list(v.drag_b.T),
            thrust_scale=list(v.thrust_scale.T),
        )
        disturbance = Disturbance(
            force_w=list((v.force_w + self._gust_w).T), torque_b=list(v.torque_b.T)
        )
        rows = self.task.privileged(
            self._state(),
            params,
            disturbance,
            [v.action_delay, v.observation_delay],
            self.task.Reference.from_rows(reference),
        )
        return np.stack(rows, axis=1).astype(np.float32)


def _check_trajectories(task: ModuleType, trajectories: np.ndarray | None) -> np.ndarray | None:
    if task.TRAJECTORY_SIZE == 0:
        return None
    if trajectories is None:
        trajectories = task.random_trajectories(np.random.default_rng(0), 4096)
    array = np.atleast_2d(np.asarray(trajectories, np.float64))
    if array.shape[1:] != (task.TRAJECTORY_SIZE,) or not np.isfinite(array).all():
        raise AlulaError(
            f"trajectories have shape {array.shape}; allowed: (n, {task.TRAJECTORY_SIZE}), finite"
        )
    return array
