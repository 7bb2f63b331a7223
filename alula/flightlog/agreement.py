"""Whether the recorded actions are those of the policy for the recorded observations; a wrong frame shows here."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from alula.flightlog.recording import Recording, Series
from alula.flightlog.tracking import POSITION, VELOCITY, reference_at
from alula.identification.motion import QUATERNION, RATES, attitude
from alula.policies.contract import ACTION_HISTORY, Contract
from alula.policies.onnx_file import Policy
from alula.tasks.track import PREVIEW_S

CLOSE = 0.02
"""Actions nearer than this agree [-]."""
AGREES, AGREES_ABS = 0.1, 1e-3
"""Root mean square difference up to which the recorded actions count as the policy's, if nothing explains it:
a share of how much they vary, or this much [-]."""
EXACT, EXACT_ABS = 0.01, 1e-4
"""The same, up to which no explanation is looked for."""
CLEARLY = 3.0
"""A hypothesis must lessen the difference by this factor to be named."""
MAX_STEPS = 20_000
WARM_UP_S = 1.0
"""Steps this early are not compared where the policy's state is not known [s]."""


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Recorded actions against what the policy file says for the recorded observations."""

    source: str
    """Where the observations come from."""
    rms: float
    """Root mean square difference of an action [-]."""
    names: tuple[str, ...]
    """Of the actions (A)."""
    rms_actions: tuple[float, ...]
    """The same for each action [-] (A)."""
    varies: float
    """Standard deviation of the recorded actions over time [-]."""
    close: float
    """Share of actions nearer than CLOSE [-]."""
    steps: int
    """Compared steps."""
    suspicion: str | None
    """What would make them agree clearly better, if anything: a wrong frame, sign, order."""
    suspicion_rms: float | None
    """The difference if it were so [-]."""
    time_s: np.ndarray
    """(T,) [s]."""
    recorded: np.ndarray
    """(T, A)."""
    policy: np.ndarray
    """(T, A)."""

    @property
    def agrees(self) -> bool:
        """Whether the recorded actions are the policy's."""
        return self.suspicion is None and self.rms <= max(AGREES * self.varies, AGREES_ABS)


Fields = dict[str, np.ndarray]
"""Supplied entries by name, (T, size) each."""


def compare(recording: Recording, policy: Policy) -> Agreement | str:
    """Replay the recorded observations through the policy, or say in words why that is not possible.

    Past actions in the observation are the recorded ones, so that differences do not add up.
    """
    contract = policy.contract
    found = _logged_inputs(recording, contract) or _assembled(recording, contract)
    if isinstance(found, str):
        return found
    source, time, fields, action, past = found
    if len(time) < 10:
        return f"{len(time)} steps with all observations; at least 10 are needed"

    def difference(changed: Fields) -> tuple[np.ndarray, float]:
        answered = _answers(policy, changed, past)
        return answered, float(np.sqrt(np.mean((answered - action)[skip:] ** 2)))

    dt = contract.control_dt
    skip = round(WARM_UP_S / dt) if contract.recurrent_state_size else 0
    skip = min(skip, len(time) // 2)
    answered, rms = difference(fields)
    varies = float(np.sqrt(np.mean(np.var(action[skip:], axis=0))))
    suspicion, better = None, rms
    if rms > max(EXACT * varies, EXACT_ABS):
        trials = {text: difference(change(fields))[1] for text, change in HYPOTHESES.items()}
        order = _best_order(answered[skip:], action[skip:])
        if order is not None:
            names = ", ".join(contract.action[k].name for k in order)
            # recorded[j] is the policy's order[j]
            ordered = _answers(policy, fields, past[..., np.argsort(order)])[:, order]
            trials[f"the commands are in the order {names}"] = float(
                np.sqrt(np.mean((ordered - action)[skip:] ** 2))
            )
        best = min(trials, key=lambda text: trials[text])
        if trials[best] * CLEARLY < rms:
            suspicion, better = best, trials[best]
    apart = np.abs(answered - action)[skip:]
    return Agreement(
        source=source,
        rms=rms,
        names=tuple(a.name for a in contract.action),
        rms_actions=tuple(float(v) for v in np.sqrt(np.mean(apart**2, axis=0))),
        varies=varies,
        close=float(np.mean(apart < CLOSE)),
        steps=len(apart),
        suspicion=suspicion,
        suspicion_rms=better if suspicion else None,
        time_s=time[skip:],
        recorded=action[skip:],
        policy=answered[skip:],
    )


_Found = tuple[str, np.ndarray, Fields, np.ndarray, np.ndarray]


def _logged_inputs(recording: Recording, contract: Contract) -> _Found | None:
    """The policy's own inputs where the robot logged them and every step's are there."""
    inputs = recording.inputs
    if inputs is None or inputs.observed.value.shape[1] != contract.supplied_size:
        return None
    long = any(e.history > 1 for e in contract.supplied)
    actions = _actions(recording, contract)
    past_needed = any(e.name == ACTION_HISTORY for e in contract.observation)
    if long or contract.recurrent_state_size or (past_needed and actions is None):
        return None
    flying = recording.is_flying(inputs.observed.time_s)
    time, action = inputs.observed.time_s[flying], inputs.action.value[flying]
    past = _past(actions, time, contract) if actions is not None else np.zeros((len(time), 0, 0))
    good = np.isfinite(past).all(axis=(1, 2))
    fields = _split(inputs.observed.value[flying][good], contract)
    source = "the observations that the robot logged"
    return source, time[good], fields, action[good], past[good]


def _split(rows: np.ndarray, contract: Contract) -> Fields:
    stops = np.cumsum([e.size for e in contract.supplied])[:-1]
    parts = np.split(rows, stops, axis=1)
    return {e.name: part for e, part in zip(contract.supplied, parts, strict=True)}


def _actions(recording: Recording, contract: Contract) -> Series | None:
    """The policy's outputs: as logged, else from the commands by the contract's ranges."""
    if recording.action is not None and recording.action.value.shape[1] == contract.action_size:
        return recording.action
    throttle = recording.throttle
    if throttle is None or throttle.value.shape[1] != contract.action_size:
        return None
    low = np.array([a.low for a in contract.action])
    high = np.array([a.high for a in contract.action])
    # command = low + (action + 1) / 2 (high - low)
    return Series(throttle.time_s, 2.0 * (throttle.value - low) / (high - low) - 1.0)


def _past(actions: Series, time: np.ndarray, contract: Contract) -> np.ndarray:
    """The actions of the steps before each time, oldest first (T, H, A); NaN where they are not known."""
    entry = next((e for e in contract.observation if e.name == ACTION_HISTORY), None)
    steps = entry.history if entry else 0
    ago = np.arange(steps, 0, -1)
    period = float(np.median(np.diff(actions.time_s)))
    if abs(period - contract.control_dt) < 0.3 * contract.control_dt:
        # one command a step: count them, whatever their jitter
        newest = np.searchsorted(actions.time_s, time - 1e-9, side="left")
        k = newest[:, None] - ago
        return np.where((k >= 0)[..., None], actions.value[np.maximum(k, 0)], np.nan)
    # the middle of each step before
    at = time[:, None] - contract.control_dt * (ago - 0.5)
    shape = (len(time), steps, contract.action_size)
    return actions.held(at.reshape(-1)).reshape(shape)


def _assembled(recording: Recording, contract: Contract) -> _Found | str:
    """Observations made from the logged state, the newest one before each command."""
    actions = _actions(recording, contract)
    if actions is None:
        return f"the log has no {contract.action_size} commands of a step"
    if recording.format == "usd" and recording.action is None:
        return "the log has no alula.action1..4"
    states = [recording.series(*n) for n in (POSITION, QUATERNION, VELOCITY, RATES)]
    if any(s is None for s in states):
        return "the log lacks position, attitude, velocity or body rate"
    time = actions.time_s[recording.is_flying(actions.time_s)]
    known = [s for s in states if s is not None]
    time = time[time >= max(s.time_s[0] for s in known)]
    if len(time) > MAX_STEPS:
        time = time[:MAX_STEPS]
    answered = _answered_at(recording, time)
    position, quat, velocity, rates = (s.held(answered) for s in known)
    reference = recording.reference_w
    wanted_w = np.zeros(3) if reference is None else reference_at(reference, time)
    fields: Fields = {
        # a hovering policy knows no reference: its world begins there
        "position_w": position - wanted_w,
        "rot_wb": attitude(quat).reshape(-1, 9),
        "velocity_w": velocity,
        "angular_velocity_b": rates,
    }
    wanted = [e.name for e in contract.supplied]
    if "position_error_w" in wanted:
        relative = _relative(recording, time, answered, position, velocity)
        if isinstance(relative, str):
            return relative
        fields |= relative
    unknown = [n for n in wanted if n not in fields]
    if unknown or any(e.history > 1 for e in contract.supplied):
        return f"observation entries {unknown or wanted} cannot be made from a log"
    past = _past(actions, time, contract)
    good = np.isfinite(past).all(axis=(1, 2))
    for name in wanted:
        good &= np.isfinite(fields[name]).all(axis=1)
    action = actions.held(time)
    if contract.recurrent_state_size:
        # its state needs every step: only up to the first hole
        good &= np.cumsum(~good) == (np.cumsum(~good)[np.argmax(good)] if good.any() else 0)
    source = "observations made from the logged state, the newest before each command"
    return source, time[good], {n: fields[n][good] for n in wanted}, action[good], past[good]


def _answered_at(recording: Recording, time: np.ndarray) -> np.ndarray:
    """When the sample that each command answers was taken [s]; the command's own time where not known."""
    loop = recording.loop
    if loop is None or loop.latency_s is None:
        return time
    k = np.clip(np.searchsorted(loop.sent_s, time - 1e-9), 0, len(loop.sent_s) - 1)
    latency = np.where(np.abs(loop.sent_s[k] - time) < 1e-6, loop.latency_s[k], 0.0)
    # a rounding error must not take the sample before
    return time - np.nan_to_num(latency) + 1e-6


def _relative(
    recording: Recording,
    time: np.ndarray,
    measured: np.ndarray,
    position: np.ndarray,
    velocity: np.ndarray,
) -> Fields | str:
    """The entries of a tracking policy: errors at the time of the measurement, preview at that of the command.

    Where the log has no reference velocity, the slope of its positions is taken.
    """
    reference = recording.reference_w
    if reference is None:
        return "the log has no reference, which the policy sees"
    now, then = reference_at(reference, time), reference_at(reference, measured)
    if recording.reference_velocity_w is not None:
        speed = reference_at(recording.reference_velocity_w, measured)
    else:
        half = 0.02
        ahead = reference_at(reference, measured + half)
        behind = reference_at(reference, measured - half)
        speed = (ahead - behind) / (2.0 * half)
    preview = [reference_at(reference, time + tau) - now for tau in PREVIEW_S]
    return {
        "position_error_w": position - then,
        "velocity_error_w": velocity - speed,
        "reference_preview_w": np.concatenate(preview, axis=1),
    }


def _answers(policy: Policy, fields: Fields, past: np.ndarray) -> np.ndarray:
    """Actions (T, A) of the policy."""
    parts = [
        past.reshape(len(past), -1) if e.name == ACTION_HISTORY else fields[e.name]
        for e in policy.contract.observation
    ]
    rows = np.concatenate(parts, axis=1).astype(np.float32)
    if not policy.contract.recurrent_state_size:
        return policy.act(rows)
    controller = policy.controller(1)
    return np.concatenate([controller(row[None]) for row in rows])


def _best_order(answered: np.ndarray, recorded: np.ndarray) -> list[int] | None:
    """The order of the policy's actions that fits the recorded ones best, if not their own."""
    count = answered.shape[1]
    if count > 6:
        return None
    squares = np.mean((answered[:, :, None] - recorded[:, None, :]) ** 2, axis=0)
    own = tuple(range(count))
    best = min(permutations(own), key=lambda p: sum(squares[k, j] for j, k in enumerate(p)))
    return None if best == own else list(best)


def _on(names: tuple[str, ...], change: Callable[[np.ndarray], np.ndarray]) -> Callable:
    """A change of the entries of these names."""
    return lambda fields: {n: change(v) if n in names else v for n, v in fields.items()}


def _rows(matrix: list[list[float]]) -> Callable[[np.ndarray], np.ndarray]:
    m = np.array(matrix)
    return lambda v: (v.reshape(len(v), -1, 3) @ m.T).reshape(v.shape)


def _rot(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    return lambda v: change(v.reshape(-1, 3, 3)).reshape(v.shape)


def _velocity_in(fields: Fields, *, transposed: bool) -> Fields:
    name = "velocity_w" if "velocity_w" in fields else "velocity_error_w"
    if name not in fields or "rot_wb" not in fields:
        return fields
    rot = fields["rot_wb"].reshape(-1, 3, 3)
    return {
        **fields,
        name: np.einsum("tji,tj->ti" if transposed else "tij,tj->ti", rot, fields[name]),
    }


_NED = [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, -1.0]]
_FRD = [[1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, -1.0]]
_WORLD = ("position_w", "velocity_w", "position_error_w", "velocity_error_w", "reference_preview_w")
HYPOTHESES: dict[str, Callable[[Fields], Fields]] = {
    "the policy was given the world in NED": lambda f: _on(
        ("rot_wb",), _rot(lambda r: np.array(_NED) @ r)
    )(_on(_WORLD, _rows(_NED))(f)),
    "the policy was given position and velocity in NED": _on(_WORLD, _rows(_NED)),
    "the policy was given the body in FRD": lambda f: _on(
        ("rot_wb",), _rot(lambda r: r @ np.array(_FRD))
    )(_on(("angular_velocity_b",), _rows(_FRD))(f)),
    "the policy was given the body rate in FRD": _on(("angular_velocity_b",), _rows(_FRD)),
    "the policy was given the body rate in deg/s": _on(
        ("angular_velocity_b",), lambda v: np.rad2deg(v)
    ),
    "the policy was given the rotation transposed": _on(
        ("rot_wb",), _rot(lambda r: np.swapaxes(r, 1, 2))
    ),
    "the policy was given the velocity in body axes, or the log has it in world axes": lambda f: (
        _velocity_in(f, transposed=True)
    ),
    "the policy was given the velocity turned once too often": lambda f: _velocity_in(
        f, transposed=False
    ),
}
"""Mistakes that bridges are known to make: what the policy was given then."""
