"""Fly a policy in a simulator and record what the statistics and the plots need."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from alula.errors import AlulaError
from alula.sim.config import Limits, SimConfig
from alula.sim.protocol import FlightSimulator, RigidBodyState

MAX_SAMPLES = 50_000_000
"""Largest episodes x steps of one flight; 250 MB of record."""

FAILURES = ("none", "position", "velocity", "angular_velocity", "non_finite")
"""Why an episode failed; `Flight.failure` holds indices into this."""

Act = Callable[[np.ndarray], np.ndarray]
"""Observations [N, O] to actions [N, A]."""


@dataclass(frozen=True)
class Trace:
    """Everything about the first K episodes of a flight, T steps long."""

    position_w: np.ndarray
    """[m] (T, K, 3)."""
    reference_w: np.ndarray
    """Reference position [m] (T, K, 3)."""
    velocity_w: np.ndarray
    """[m/s] (T, K, 3)."""
    quat_wb: np.ndarray
    """Attitude, scalar first (T, K, 4)."""
    angular_velocity_b: np.ndarray
    """[rad/s] (T, K, 3)."""
    rotor_fraction: np.ndarray
    """Rotor speed over its maximum [-] (T, K, R)."""
    action: np.ndarray
    """Policy output [-1, 1] (T, K, A)."""


@dataclass(frozen=True, kw_only=True)
class Flight:
    """N episodes of T steps; row t holds the state after step t."""

    control_dt: float
    """Time between steps [s]."""
    position_error: np.ndarray
    """Distance from the reference [m] (T, N), float32."""
    failed_at: np.ndarray
    """Step at which the episode failed; T where it did not (N,), int."""
    failure: np.ndarray
    """Index into FAILURES (N,), int."""
    trace: Trace
    """The first episodes in full."""

    @property
    def time(self) -> np.ndarray:
        """Time of each row [s] (T,)."""
        return self.control_dt * np.arange(1, len(self.position_error) + 1)

    @property
    def alive(self) -> np.ndarray:
        """Whether the episode has not failed up to and including step t (T, N), bool."""
        return np.arange(len(self.position_error))[:, None] < self.failed_at

    @property
    def survived(self) -> np.ndarray:
        """Whether the episode never failed (N,), bool."""
        return self.failed_at == len(self.position_error)


def fly(
    act: Act,
    simulator: FlightSimulator,
    config: SimConfig,
    *,
    steps: int,
    seed: int,
    traced: int = 16,
    prepare: Callable[[], None] | None = None,
) -> Flight:
    """Fly one episode in each environment of a simulator that does not reset by itself.

    Args:
        act: the policy, freshly reset (`Policy.controller`); gets the simulator's observation, histories
            included.
        simulator: made with `auto_reset=False`, so that a failed episode stays failed.
        config: the simulator's setting; its limits tell the kinds of failure apart.
        steps: length of the episodes T [steps].
        seed: seed of the starts, vehicles, disturbances and noise.
        traced: episodes K recorded in full; the others leave only their position error and failure.
        prepare: called after the reset, before the first step (e.g. to change vehicles).

    Raises:
        AlulaError: steps < 1, or more than MAX_SAMPLES samples.
    """
    n = simulator.n_envs
    if steps < 1 or steps * n > MAX_SAMPLES:
        raise AlulaError(f"{n} episodes of {steps} steps; allowed: 1 to {MAX_SAMPLES} in all")
    observation = simulator.reset(seed)
    if prepare is not None:
        prepare()
    k = min(traced, n)
    position_error = np.empty((steps, n), np.float32)
    failed_at = np.full(n, steps)
    failure = np.zeros(n, np.int64)
    rows: list[tuple[np.ndarray, ...]] = []
    for t in range(steps):
        # a failed vehicle flies on with zero actions: its state, and so the policy's, may not be finite
        action = np.where((failed_at < steps)[:, None], np.float32(0.0), act(observation))
        transition = simulator.step(action)
        observation = transition.observation
        state = simulator.state()
        error = state.position_w - state.reference_position_w
        position_error[t] = np.sqrt(np.einsum("ni,ni->n", error, error))
        fresh = transition.terminated & (failed_at == steps)
        if fresh.any():
            failed_at[fresh] = t
            failure[fresh] = _kind(state, error, config.limits)[fresh]
        rows.append(_sample(state, action, k))
    return Flight(
        control_dt=config.control_dt,
        position_error=position_error,
        failed_at=failed_at,
        failure=failure,
        trace=Trace(*(np.stack(column) for column in zip(*rows, strict=True))),
    )


def _sample(state: RigidBodyState, action: np.ndarray, k: int) -> tuple[np.ndarray, ...]:
    """One row of a `Trace`, in the order of its fields."""
    return (
        state.position_w[:k].copy(),
        state.reference_position_w[:k].copy(),
        state.velocity_w[:k].copy(),
        state.quat_wb[:k].copy(),
        state.angular_velocity_b[:k].copy(),
        state.rotor_fraction[:k].copy(),
        action[:k],
    )


def _kind(state: RigidBodyState, error: np.ndarray, limits: Limits) -> np.ndarray:
    """Index into FAILURES of what is outside now (N,); the first that applies, non-finite first."""
    finite = np.ones(len(error), bool)
    for part in (state.position_w, state.velocity_w, state.quat_wb, state.angular_velocity_b):
        finite &= np.isfinite(part).all(axis=1)
    # exactly on a limit is left to the last kind, as is what rounding in the simulator decided
    return np.select(
        [
            ~finite,
            (np.abs(error) > limits.position).any(axis=1),
            (np.abs(state.velocity_w) > limits.velocity).any(axis=1),
        ],
        [4, 1, 2],
        default=3,
    )
