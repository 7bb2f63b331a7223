"""Many multirotors at once on compiled kernels: the `Simulator` protocol over `batch.h`."""

import ctypes
import math
from types import ModuleType

import numpy as np

from alula.errors import AlulaError
from alula.robots.multirotor import GRAVITY, Multirotor
from alula.sim.config import MAX_DELAY_STEPS, SimConfig
from alula.sim.multirotor.equations import Params
from alula.sim.multirotor.kernels import (
    LANES,
    Batch,
    Features,
    RowCounts,
    aligned,
    pointer,
    simulator_library,
)
from alula.sim.protocol import RigidBodyState, Transition
from alula.sim.sensors import SENSED_SIZE, noise_rows

TAPE_ROOM = 64
"""Steps between two moves of the action and measurement tapes."""


class FlightBatch:
    """Arrays of N flights, [blocks, rows, 16], and the C structure that points at them.

    Attributes are named after the fields of `Batch` in batch.h.
    """

    def __init__(
        self,
        robot: Multirotor,
        task: ModuleType,
        config: SimConfig,
        n_envs: int,
        *,
        trajectories: np.ndarray | None = None,
        tape_room: int = TAPE_ROOM,
        weights: list[float] | None = None,
    ) -> None:
        if n_envs < 1:
            raise AlulaError(f"n_envs is {n_envs}; allowed: >= 1")
        self.rows = rows = RowCounts(robot.n_rotors, task)
        self.n_blocks = blocks = -(-n_envs // LANES)
        ring = MAX_DELAY_STEPS + 1
        self.first_tape = ring * -(-(config.history + ring) // ring)
        # The cursor returns to within a ring of first_tape, and `tape_room` steps must fit behind it.
        tape = self.first_tape + ring - 1 + tape_room
        widths = {**own_rows(rows, tape), "observed": rows.observed, "reward": 1}
        self.arrays = {name: aligned((blocks, width, LANES)) for name, width in widths.items()}
        self.arrays["rng"] = aligned((blocks, 4, LANES), np.uint32)
        self.shared = shared_rows(robot, task, config, trajectories, weights)
        self.struct = Batch(
            n_blocks=blocks, tape_length=tape, **flight_numbers(robot, config, self.shared)
        )
        for name, array in (self.arrays | self.shared).items():
            setattr(self.struct, name, pointer(array))

    def seed(self, seed: int) -> None:
        """Seed every environment's own generator; environment i is the same for any N."""
        words = environment_words(seed, self.n_blocks * LANES)
        self.arrays["rng"][:] = words.reshape(self.n_blocks, LANES, 4).transpose(0, 2, 1)


def own_rows(rows: RowCounts, tape: int) -> dict[str, int]:
    """How many rows of each kind an environment keeps from step to step, with `tape` steps of actions."""
    return {
        "state": rows.state, "params": rows.params, "constant": 6, "gust": 3,
        "action_delay": MAX_DELAY_STEPS + 1, "observation_delay": MAX_DELAY_STEPS + 1,
        "trajectory": rows.trajectory, "clock": 1, "actions": tape * rows.rotors,
        "sensed": (MAX_DELAY_STEPS + 1) * SENSED_SIZE, "failed": 1,
    }  # fmt: skip


def shared_rows(
    robot: Multirotor,
    task: ModuleType,
    config: SimConfig,
    trajectories: np.ndarray | None = None,
    weights: list[float] | None = None,
) -> dict[str, np.ndarray]:
    """What all environments share, float32, by the names of `Batch` in batch.h."""
    dt = config.control_dt / config.substeps
    arms = [*(p[0] for p in robot.rotor_position_b), *(p[1] for p in robot.rotor_position_b)]
    return {
        "nominal": np.array(nominal_params(robot, dt), np.float32),
        "uniform": np.array([*arms, dt], np.float32),
        "noise": config.noise * np.array(sensor_noise(robot), np.float32),
        "weights": np.array(weights or task.CostWeights().rows(robot.hover_action), np.float32),
        "bank": _trajectory_bank(task, trajectories),
    }


def environment_words(seed: int, n: int) -> np.ndarray:
    """Four 32-bit words for each of n environments: SplitMix64 of (seed, environment)."""
    if seed < 0:
        raise AlulaError(f"seed is {seed}; allowed: >= 0")
    base = np.random.SeedSequence(seed).generate_state(1, np.uint64)
    with np.errstate(over="ignore"):
        z = base + np.arange(1, 2 * n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (z ^ (z >> np.uint64(31))).view(np.uint32)


def nominal_params(robot: Multirotor, dt: float) -> list[float]:
    """The rows of `Params` for the robot as it is and a physics step of `dt` [s]."""
    jx, jy, jz = robot.inertia
    return Params(
        mass_inv=1.0 / robot.mass,
        inertia_inv=[1.0 / jx, 1.0 / jy, 1.0 / jz],
        gyroscopic=[(jz - jy) / jx, (jx - jz) / jy, (jy - jx) / jz],
        thrust_curve=robot.thrust_curve,
        lag_up_inv=1.0 / robot.rotor_lag_up,
        lag_down_inv=1.0 / robot.rotor_lag_down,
        rise=math.exp(-0.5 * dt / robot.rotor_lag_up),
        fall=math.exp(-0.5 * dt / robot.rotor_lag_down),
        torque_per_thrust=robot.torque_per_thrust,
        rotor_momentum=robot.rotor_inertia * robot.rotor_speed_max,
        drag_b=robot.drag_b,
        thrust_scale=[1.0] * robot.n_rotors,
    ).rows()


def sensor_noise(robot: Multirotor) -> list[float]:
    """Standard deviation of each of the 18 measured rows."""
    return noise_rows(
        robot.position_noise,
        robot.orientation_noise,
        robot.velocity_noise,
        robot.angular_velocity_noise,
    )


def _trajectory_bank(task: ModuleType, trajectories: np.ndarray | None) -> np.ndarray:
    if task.TRAJECTORY_SIZE == 0:
        return np.zeros((1, 1), np.float32)
    rows: np.ndarray = (
        task.random_trajectories(np.random.default_rng(0), 4096)
        if trajectories is None
        else np.atleast_2d(trajectories)
    )
    bank = np.ascontiguousarray(rows, np.float32)
    fits = bank.ndim == 2 and len(bank) >= 1 and bank.shape[1] == task.TRAJECTORY_SIZE
    if not fits or not np.isfinite(bank).all():
        raise AlulaError(
            f"trajectories have shape {bank.shape}; allowed: (n >= 1, {task.TRAJECTORY_SIZE}), finite"
        )
    return bank


def flight_numbers(
    robot: Multirotor, config: SimConfig, shared: dict[str, np.ndarray]
) -> dict[str, float]:
    """The numbers of `Batch` in batch.h, but for those that depend on how the arrays are laid out."""
    start, limits, d, r = config.start, config.limits, config.disturbances, config.randomization
    weight = robot.mass * GRAVITY
    return {
        "history": config.history,
        "substeps": config.substeps,
        "episode_steps": config.episode_steps,
        "n_bank": len(shared["bank"]),
        "noisy": bool(shared["noise"].any()),
        "action_delay_low": r.action_delay_steps[0],
        "action_delay_high": r.action_delay_steps[1],
        "observation_delay_low": r.observation_delay_steps[0],
        "observation_delay_high": r.observation_delay_steps[1],
        "control_dt": config.control_dt,
        "throttle_min": robot.throttle_min,
        "throttle_max": robot.throttle_max,
        "hover_action": robot.hover_action,
        "hover_fraction": robot.hover_throttle,
        "force_std": d.force * weight,
        "torque_std": d.torque * weight,
        "gust_std": d.gust * weight,
        "gust_decay": math.exp(-config.control_dt / d.gust_time),
        "start_position": start.position,
        "start_tilt": start.tilt,
        "start_velocity": start.velocity,
        "start_rate": start.angular_velocity,
        "start_rotor": start.rotor_fraction,
        "start_at_rest": start.at_rest,
        "limit_position": limits.position,
        "limit_velocity": limits.velocity,
        "limit_rate": limits.angular_velocity,
        "random_mass": r.mass,
        "random_inertia": r.inertia,
        "random_thrust": r.thrust,
        "random_rotor": r.rotor,
        "random_lag": r.lag,
        "random_torque": r.torque,
        "random_drag": r.drag,
    }


class MultirotorSimulator:
    """N multirotors in alula's own physics; see `Simulator` for the protocol.

    N is rounded up to a multiple of 16 inside; the extra environments fly but are never shown.
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
        self.robot, self.task, self.config = robot, task, config
        self.auto_reset = auto_reset
        self._n = n_envs
        self.batch = FlightBatch(robot, task, config, n_envs, trajectories=trajectories)
        self._library = simulator_library(Features.of(robot), task)
        rows, n = self.batch.rows, self.batch.n_blocks * LANES
        self._columns = rows.observed + config.history * rows.rotors
        self._cursor = self.batch.first_tape
        self._terminated = np.zeros(n, np.uint8)
        self._truncated = np.zeros(n, np.uint8)
        self._action = np.zeros((n, rows.rotors), np.float32)

    @property
    def n_envs(self) -> int:
        """Number of environments N."""
        return self._n

    @property
    def _struct(self) -> "ctypes._CArgObject":  # type: ignore[name-defined]
        return ctypes.byref(self.batch.struct)

    def reset(self, seed: int) -> np.ndarray:
        """Start all episodes anew; returns the actor observation [N, O]."""
        self.batch.seed(seed)
        self._cursor = self.batch.first_tape
        self._library.alula_reset(self._struct, 0, self.batch.n_blocks, self._cursor)
        return self._observe()[0]

    def step(self, action: np.ndarray) -> Transition:
        """Apply actions [N, R] in [-1, 1] for one `control_dt`; larger ones are clipped, NaN refused."""
        if action.shape != (self._n, self.batch.rows.rotors) or not np.isfinite(action).all():
            raise AlulaError(
                f"action has shape {action.shape}; allowed: {(self._n, self.batch.rows.rotors)}, finite"
            )
        self._action[: self._n] = np.clip(action, -1.0, 1.0)
        blocks = self.batch.n_blocks
        lanes = np.ascontiguousarray(self._action.reshape(blocks, LANES, -1).transpose(0, 2, 1))
        self._make_room()
        n, columns, critic = blocks * LANES, self._columns, self.batch.rows.privileged
        final = np.zeros((n, columns), np.float32)
        final_privileged = np.zeros((n, critic), np.float32)
        self._library.alula_step(
            self._struct, 0, blocks, self._cursor, 1, pointer(lanes), int(self.auto_reset),
            pointer(self._terminated), pointer(self._truncated), pointer(final),
            pointer(final_privileged),
        )  # fmt: skip
        self._cursor += 1
        observation, privileged = self._observe()
        terminated = self._terminated[: self._n].astype(bool)
        truncated = self._truncated[: self._n].astype(bool)
        ended = (terminated | truncated)[:, None]
        return Transition(
            observation=observation,
            privileged=privileged,
            reward=self.batch.arrays["reward"].reshape(-1)[: self._n].copy(),
            terminated=terminated,
            truncated=truncated,
            final_observation=np.where(ended, final[: self._n], observation),
            final_privileged=np.where(ended, final_privileged[: self._n], privileged),
        )

    def step_blocks(self, action: np.ndarray, repeat: int = 1) -> None:
        """Step with actions as the kernels store them [blocks, R, 16], held for `repeat` steps.

        Nothing is copied out: the last observed rows and rewards stand in `batch.arrays` afterwards. Each
        block of 16 environments is flown through all its steps before the next, so that it stays in the cache.
        """
        if not 1 <= repeat <= TAPE_ROOM:
            raise AlulaError(f"repeat is {repeat}; allowed: 1 to {TAPE_ROOM}")
        shape = (self.batch.n_blocks, self.batch.rows.rotors, LANES)
        if action.shape != shape or action.dtype != np.float32 or not action.flags.c_contiguous:
            raise AlulaError(
                f"action has shape {action.shape}; allowed: {shape}, float32, contiguous"
            )
        self._make_room(repeat)
        self._library.alula_step(
            self._struct, 0, self.batch.n_blocks, self._cursor, repeat, pointer(action),
            int(self.auto_reset), pointer(self._terminated), pointer(self._truncated), None, None,
        )  # fmt: skip
        self._cursor += repeat

    def state(self) -> RigidBodyState:
        """True state now, float32."""
        x = self._flat("state")
        if self.batch.rows.trajectory:
            t = self._flat("clock")[:, 0] * self.config.control_dt
            rows = self.task.reference(t, list(self._flat("trajectory").T))
            target = np.stack(rows[:3], axis=1).astype(np.float32)
        else:
            target = np.zeros((self._n, 3), np.float32)
        return RigidBodyState(
            position_w=x[:, 0:3],
            velocity_w=x[:, 3:6],
            quat_wb=x[:, 6:10],
            angular_velocity_b=x[:, 10:13],
            rotor_fraction=x[:, 13:],
            reference_position_w=target,
        )

    def scale_parameters(self, **factors: np.ndarray | float) -> None:
        """Multiply parameters of the running episodes: mass, inertia, thrust, lag, torque, drag [N] or scalar.

        Meant for robustness sweeps right after `reset` with `auto_reset=False`.

        Raises:
            AlulaError: unknown parameter, or a factor that is not positive or has another shape.
        """
        rows = {
            "mass": ([0], -1), "inertia": ([1, 2, 3], -1), "thrust": ([7, 8, 9], 1),
            "lag": ([10, 11], -1), "torque": ([14], 1), "drag": ([16, 17, 18], 1),
        }  # fmt: skip
        params = self.batch.arrays["params"]
        for name, factor in factors.items():
            if name not in rows:
                raise AlulaError(f"unknown parameter {name!r}; known: {', '.join(rows)}")
            full = self._each(name, factor, 1.0).astype(np.float32)
            if not (np.isfinite(full).all() and (full > 0.0).all()):
                raise AlulaError(f"factor of {name} must be finite and > 0")
            chosen, power = rows[name]
            params[:, chosen] *= full.reshape(-1, 1, LANES) ** power
        # rise and fall follow from the lags: exp(-dt / (2 lag))
        params[:, 12:14] = np.exp(-0.5 * self.batch.shared["uniform"][-1] * params[:, 10:12])

    def set_action_delay(self, steps: np.ndarray | int) -> None:
        """Set the action delay of the running episodes [steps], an integer or [N].

        Raises:
            AlulaError: outside of the delays this simulator was built for.
        """
        high = self.batch.struct.action_delay_high
        full = self._each("action delay", steps, 0)
        if not np.isin(full, np.arange(high + 1)).all():
            raise AlulaError(f"action delay {steps} steps; allowed: 0 to {high}")
        one_hot = full.reshape(-1, 1, LANES) == np.arange(MAX_DELAY_STEPS + 1)[None, :, None]
        self.batch.arrays["action_delay"][:] = one_hot

    def _each(self, name: str, value: np.ndarray | float, extra: float) -> np.ndarray:
        """A scalar or [N] as one number an environment, `extra` in those that are never shown."""
        full = np.full(self.batch.n_blocks * LANES, float(extra))
        try:
            full[: self._n] = np.broadcast_to(np.asarray(value, float), (self._n,))
        except (ValueError, TypeError):
            raise AlulaError(
                f"{name} has shape {np.shape(value)}; allowed: a number or ({self._n},)"
            ) from None
        return full

    def _flat(self, name: str) -> np.ndarray:
        array = self.batch.arrays[name]
        return array.transpose(0, 2, 1).reshape(-1, array.shape[1])[: self._n].copy()

    def _actions(self) -> np.ndarray:
        """View [blocks, steps, R, 16] of the tape of actions."""
        length = self.batch.struct.tape_length
        return self.batch.arrays["actions"].reshape(self.batch.n_blocks, length, -1, LANES)

    def _make_room(self, steps: int = 1) -> None:
        """Move the last actions to the front once the tape has no room for `steps` more.

        The cursor moves back by a multiple of the measurement ring's slots, so that the ring stays valid.
        """
        if self._cursor + steps < self.batch.struct.tape_length:
            return
        ring = MAX_DELAY_STEPS + 1
        back = (self._cursor - self.batch.first_tape) // ring * ring
        tape = self._actions()
        tape[:, : self._cursor - back] = tape[:, back : self._cursor].copy()
        self._cursor -= back

    def _observe(self) -> tuple[np.ndarray, np.ndarray]:
        n = self.batch.n_blocks * LANES
        observation = np.empty((n, self._columns), np.float32)
        privileged = np.empty((n, self.batch.rows.privileged), np.float32)
        self._library.alula_rows(
            self._struct, 0, self.batch.n_blocks, self._cursor, pointer(observation),
            pointer(privileged),
        )  # fmt: skip
        return observation[: self._n], privileged[: self._n]
