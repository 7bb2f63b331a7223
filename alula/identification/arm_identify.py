"""From a log of an arm's joints to their friction, drive gains and rotor inertia."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import alula
from alula.identification.arm_logs import read_joint_log
from alula.identification.arm_model import ArmModel
from alula.identification.arm_result import ArmIdentification, JointResult
from alula.identification.arm_samples import SMOOTHING, Samples, prepare
from alula.identification.findings import Findings, Interval
from alula.identification.intervals import interval
from alula.identification.joint_friction import (
    Fit,
    Problem,
    deviations,
    fit,
    held_out_rms,
    rms,
    unit_rms,
)
from alula.robots.arm import load_arm

MIN_SAMPLES = 100
"""Fewest samples of a fit."""
MIN_SHARE = 0.02
"""Share of the samples in which a joint must move, each way."""
FAST = 0.02
"""A joint moves above this speed [rad/s or m/s]."""
STILL_SPEED, STILL_SPAN = 0.02, 0.02
"""Other joints stand still below this speed [rad/s], within this much of their place [rad]."""
MIN_PARTIAL_R2 = 0.5
"""A drive gain is seen if torque explains this much of the current that friction leaves."""


def identify_arm(
    path: str | Path,
    *,
    robot: str | Path,
    from_s: float | None = None,
    to_s: float | None = None,
    columns: dict[str, str] | None = None,
) -> ArmIdentification:
    """Identify the joints of an arm from a log of positions, velocities and torques or currents.

    Args:
        path: the log; see `alula.identification.arm_logs.read_joint_log`.
        robot: arm (name or file); its MJCF, if it has one, tells gravity and inertia.
        from_s: start of the part to use, in the log's own clock [s].
        to_s: end of the part to use [s].
        columns: our signal name -> the log's.

    Raises:
        AlulaError: bad robot, log or window.
    """
    arm = load_arm(robot)
    model = ArmModel(arm) if arm.model else None
    counts = model.counts if model else (len(arm.joint_names),)
    whole = read_joint_log(path, arm, counts, columns)
    log = whole.window(from_s, to_s) if from_s is not None or to_s is not None else whole
    samples = prepare(log)
    n = samples.q.shape[1]
    problems = joint_problems(samples, model)
    results, series = [], {"time_s": samples.time_s}
    for k, joint in enumerate(arm.joint_names[:n]):
        result, drawn = _joint(joint, k, samples, problems[k])
        results.append(result)
        series |= {f"{joint}.{key}": value for key, value in drawn.items()}
    return ArmIdentification(
        log={
            "path": whole.path,
            "format": whole.format,
            "sha256": whole.sha256,
            "alula": alula.__version__,
        },
        from_s=log.start_s,
        to_s=log.end_s,
        robot=arm,
        dropped=whole.dropped,
        joints=tuple(results),
        series=series,
    )


@dataclass(frozen=True, kw_only=True)
class Task:
    """One joint's problem and what it needs to be told in torques."""

    explained: str
    problem: Problem
    known: np.ndarray
    """Torque of the model that was taken from the measured one (S,)."""
    which: np.ndarray
    """Samples that the problem holds."""


def joint_problems(samples: Samples, model: ArmModel | None) -> list[Task]:
    """For each joint, what to explain with what (docs/identify-arm.md)."""
    n = samples.q.shape[1]
    everything = np.arange(len(samples.time_s))
    if samples.tau is not None and samples.current is not None:
        torques = [{"torque": samples.tau[:, k]} for k in range(n)]
        return [
            _task("current by torque", samples, k, everything, samples.current, torques[k])
            for k in range(n)
        ]
    effort = samples.tau if samples.tau is not None else samples.current
    assert effort is not None
    if model is None:
        return [_alone(samples, k, effort) for k in range(n)]
    motion = samples.q, samples.qd, samples.qdd
    rigid, links = model.torque(*motion), model.link_torques(*motion)
    if samples.tau is not None:
        return [
            _task("torque by model", samples, k, everything, effort, {}, links, rigid)
            for k in range(n)
        ]
    torques = [{"torque": rigid[:, k]} for k in range(n)]
    return [
        _task("current by model", samples, k, everything, effort, torques[k], links)
        for k in range(n)
    ]


def _alone(samples: Samples, k: int, effort: np.ndarray) -> Task:
    """A joint by itself: while the others stand still, gravity is a sine of its position and its inertia constant."""
    others = np.delete(np.arange(samples.q.shape[1]), k)
    still = np.all(np.abs(samples.qd[:, others]) < STILL_SPEED, axis=1)
    place = np.median(samples.q[still][:, others], axis=0) if still.any() else samples.q[0, others]
    still &= np.all(np.abs(samples.q[:, others] - place) < STILL_SPAN, axis=1)
    gravity = {"sine": np.sin(samples.q[:, k]), "cosine": np.cos(samples.q[:, k])}
    unit = "torque" if samples.tau is not None else "current"
    return _task(f"{unit} of the joint alone", samples, k, np.flatnonzero(still), effort, gravity)


def _task(
    explained: str,
    samples: Samples,
    k: int,
    which: np.ndarray,
    effort: np.ndarray,
    more: dict[str, np.ndarray],
    links: np.ndarray | None = None,
    rigid: np.ndarray | None = None,
) -> Task:
    known = np.zeros(len(effort)) if rigid is None else rigid[:, k]
    columns = {
        "viscous": samples.qd[:, k],
        "offset": np.ones(len(effort)),
        "acceleration": samples.qdd[:, k],
        **more,
    }
    problem = Problem(
        signs=samples.sign[:, :, k].T,
        rest=np.column_stack(list(columns.values())),
        names=tuple(columns),
        links=np.zeros((len(effort), 0)) if links is None else unit_rms(links[:, k]),
        y=effort[:, k] - known,
    )
    return Task(explained=explained, problem=problem.rows(which), known=known[which], which=which)


def _joint(
    joint: str, k: int, samples: Samples, task: Task
) -> tuple[JointResult, dict[str, np.ndarray]]:
    found, problem = Findings(), task.problem
    unit = "A" if task.explained.startswith("current") else "N m"
    why = _cannot_tell(samples.qd[:, k], task)
    if why:
        found.missing("friction", why)
        return _result(joint, task, unit, found), {}
    fitted = fit(problem)
    steps, widen = deviations(problem, fitted)
    at = {name: i for i, name in enumerate(("coulomb", *problem.names))}
    _friction(found, unit, fitted, steps, widen, at, problem)
    _armature(found, unit, task, fitted, steps, widen, at)
    residual = problem.y - fitted.predict(problem)
    own = [at["coulomb"], at["viscous"], at["offset"]]
    columns = np.column_stack((problem.signs[:, fitted.smoothing], problem.rest))
    friction = columns[:, own] @ fitted.own[own]
    measured = problem.y + task.known
    numbers = {
        "smoothing": SMOOTHING[fitted.smoothing],
        "link_freedom": fitted.shrink,
        "r2": 1.0 - float(np.var(residual) / np.var(measured)),
        "effort_rms": rms(measured),
        "residual_rms": rms(residual),
        "residual_rms_without_friction": rms(residual + friction),
        "held_out_rms": held_out_rms(problem),
    }
    speed = samples.qd[task.which, k]
    drawn = {
        "time_s": samples.time_s[task.which],
        "measured": measured,
        "predicted": measured - residual,
        "speed": speed,
        "friction": residual + friction,
        "coulomb_viscous_offset": fitted.own[own],
    }
    return _result(joint, task, unit, found, **numbers), drawn


def _result(joint: str, task: Task, unit: str, found: Findings, **numbers) -> JointResult:
    keys = ["coulomb", "viscous", "offset", "armature", "drive_gain"]
    keys += ["coulomb_a", "viscous_a", "offset_a"] if unit == "A" else []
    return JointResult(
        joint=joint,
        explained=task.explained,
        unit=unit,
        values={k: None if k in found.reasons else found.values.get(k) for k in keys},
        intervals=found.intervals,
        reasons=found.reasons,
        samples=len(task.which),
        **numbers,
    )


def _cannot_tell(qd: np.ndarray, task: Task) -> str:
    """Why a joint shows no friction in this log; empty where it may.

    Args:
        qd: the joint's velocity in the whole log [rad/s or m/s] (S,).
        task: the joint's problem.
    """
    if len(qd) < MIN_SAMPLES:
        return f"{len(qd)} samples after filtering are fewer than {MIN_SAMPLES}"
    if len(task.which) and np.ptp(task.problem.y + task.known) == 0.0:
        return "its measured effort never changes"
    both, used = _both_ways(qd), _both_ways(qd[task.which])
    if both < MIN_SHARE:
        return f"it moves at more than {FAST:g} rad/s both ways in less than {MIN_SHARE:.0%} of the log"
    if used < MIN_SHARE or len(task.which) < MIN_SAMPLES:
        return (
            "the other joints move with it; give a robot with a model, or move one joint at a time"
        )
    return ""


def _both_ways(qd: np.ndarray) -> float:
    """Share of the samples in which a joint moves, in the direction where it is smaller."""
    return min(float(np.mean(qd > FAST)), float(np.mean(qd < -FAST))) if len(qd) else 0.0


def _friction(
    found: Findings,
    unit: str,
    fitted: Fit,
    steps: np.ndarray,
    widen: float,
    at: dict[str, int],
    problem: Problem,
) -> None:
    """Friction in the unit of the effort, and in torques where the drive gain is seen."""
    gain = None
    if unit == "A":
        for key in ("coulomb", "viscous", "offset"):
            value = float(fitted.own[at[key]])
            _record(found, f"{key}_a", value, interval(value, steps[:, at[key]], widen))
        gain = _drive_gain(found, fitted, steps, widen, at, problem)
    for key in ("coulomb", "viscous", "offset"):
        value, moves = float(fitted.own[at[key]]), steps[:, at[key]]
        if unit == "A":
            if gain is None:
                found.missing(key, f"in A only ({key}_a), as the drive gain is not seen")
                continue
            # torque = p / b, with the current's coefficients p of friction and b of torque
            b, db = fitted.own[at["torque"]], steps[:, at["torque"]]
            value, moves = value * gain, (moves - value * db / b) * gain
        _record(found, key, value, interval(value, moves, widen))


def _record(found: Findings, key: str, value: float, span: Interval) -> None:
    """Keep an estimate; friction that may be 0 or negative is not seen."""
    found.found(key, value, span)
    if not key.startswith("offset") and span[0] <= 0.0:
        what = "negative" if span[1] < 0.0 else "not told from 0"
        found.missing(key, f"{what}: {span[0]:.3g} to {span[1]:.3g}")


def _drive_gain(
    found: Findings,
    fitted: Fit,
    steps: np.ndarray,
    widen: float,
    at: dict[str, int],
    problem: Problem,
) -> float | None:
    """Torque over current, between the two regressions of one on the other.

    Noise in the torque makes the gain too large, noise in the current the inverse too small; the truth lies between
    1 / b and r^2 / b, and r / b is taken, with r the correlation of what the other columns leave of the two.
    """
    if "torque" not in at:
        found.missing("drive_gain", "needs torque beside current, or a robot with a model")
        return None
    if fitted.shrink is not None:
        found.missing(
            "drive_gain",
            "the model's links do not fit this log, and the gain hides in their masses",
        )
        return None
    others = np.column_stack((problem.signs[:, fitted.smoothing], problem.rest))
    torque, others = others[:, at["torque"]], np.delete(others, at["torque"], axis=1)
    left = torque - others @ np.linalg.lstsq(others, torque, rcond=None)[0]
    residual = problem.y - fitted.predict(problem)
    b, db = float(fitted.own[at["torque"]]), steps[:, at["torque"]]
    explained = b * b * float(left @ left)
    r2 = explained / (explained + float(residual @ residual))
    if b <= 0.0 or r2 < MIN_PARTIAL_R2:
        found.missing("drive_gain", f"torque explains R2 {r2:.2f} of the current beside friction")
        return None
    value = math.sqrt(r2) / b
    low, high = interval(value, db * value / b, widen)
    found.found("drive_gain", value, (min(low, r2 / b), max(high, 1.0 / b)))
    return value


def _armature(
    found: Findings,
    unit: str,
    task: Task,
    fitted: Fit,
    steps: np.ndarray,
    widen: float,
    at: dict[str, int],
) -> None:
    """Inertia of the rotor beyond the gear: what acceleration takes beside the links' inertia."""
    if "alone" in task.explained:
        found.missing("armature", "without a model it is one with the inertia of the links")
        return
    if fitted.shrink is not None:
        found.missing(
            "armature", "the model's links do not fit this log, and it hides in their inertia"
        )
        return
    if unit == "A" and "drive_gain" not in found.values:
        found.missing("armature", "needs the drive gain")
        return
    scale = found.values["drive_gain"] if unit == "A" else 1.0
    value = float(fitted.own[at["acceleration"]]) * scale
    _record(found, "armature", value, interval(value, steps[:, at["acceleration"]] * scale, widen))
