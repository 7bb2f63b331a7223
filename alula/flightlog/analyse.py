"""A flight's log, from the file to everything that is known about it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alula.errors import AlulaError
from alula.evaluation.evaluate import policy_robot
from alula.flightlog.agreement import Agreement, compare
from alula.flightlog.from_bag import record_bag
from alula.flightlog.from_firmware import record_firmware
from alula.flightlog.gap import Gap, measure_gap
from alula.flightlog.recording import Recording
from alula.flightlog.timing import Spread, Timing, time_loop
from alula.flightlog.tracking import Tracking, track
from alula.identification.rosbag import ROLES, is_rosbag
from alula.policies.onnx_file import Policy, load_policy
from alula.robots.multirotor import Multirotor, load_robot


@dataclass(frozen=True, kw_only=True)
class FlightReport:
    """What a log says about a flight; what it does not say is None, and `gaps` tells why."""

    recording: Recording
    """The flight, cut to the window."""
    robot: str | None
    """Robot that the simulator flew."""
    policy: str | None
    """Policy file that was compared."""
    tracking: Tracking | None
    """Distance from the reference."""
    timing: Timing | None
    """Latency and jitter."""
    gap: tuple[Gap, ...]
    """Departure from the simulator, by horizon."""
    agreement: Agreement | None
    """Recorded actions against the policy file."""
    gaps: tuple[str, ...]
    """What is missing or odd, a line each."""

    def to_json(self) -> dict[str, Any]:
        """The figures as plain JSON values."""
        r = self.recording
        return {
            "log": {"path": r.path, "format": r.format, "sha256": r.sha256},
            "robot": self.robot,
            "policy": self.policy,
            "from_s": r.flown[0],
            "to_s": r.flown[1],
            "flown_s": sum(b - a for a, b in r.flying),
            "tracking": _tracking_json(self.tracking) if self.tracking else None,
            "timing": _timing_json(self.timing) if self.timing else None,
            "gap": [_gap_json(g) for g in self.gap],
            "agreement": _agreement_json(self.agreement) if self.agreement else None,
            "events": [
                {"time_s": e.time_s, "level": e.level, "source": e.source, "text": e.text}
                for e in r.events
            ],
            "counters": r.counters,
            "gaps": list(self.gaps),
        }


def flight_report(
    log: str | Path,
    *,
    policy: str | Path | None = None,
    robot: str | Path | None = None,
    topics: dict[str, str] | None = None,
    from_s: float | None = None,
    to_s: float | None = None,
) -> FlightReport:
    """The same as `analyse` for a policy file and a robot's name or file; without one, the policy's own robot.

    Raises:
        AlulaError: as `analyse`, or an unreadable policy file or robot.
    """
    loaded = load_policy(policy) if policy else None
    if robot is not None:
        flown = load_robot(robot)
    else:
        flown = policy_robot(loaded.contract) if loaded else None
    return analyse(
        log,
        policy=loaded,
        policy_name=str(policy) if policy else None,
        robot=flown,
        topics=topics,
        from_s=from_s,
        to_s=to_s,
    )


def analyse(
    log: str | Path,
    *,
    policy: Policy | None = None,
    policy_name: str | None = None,
    robot: Multirotor | None = None,
    topics: dict[str, str] | None = None,
    from_s: float | None = None,
    to_s: float | None = None,
) -> FlightReport:
    """Read the log of a flight and find out everything that it tells.

    Args:
        log: rosbag2 (folder, .mcap or .db3), PX4 ULog or Crazyflie micro-SD log.
        policy: what flew; None leaves out the agreement.
        policy_name: how to call it.
        robot: what the simulator flies; None leaves out the gap.
        topics: role -> topic (`rosbag.ROLES`) where the types in a bag do not tell.
        from_s: first second that counts, in the log's own clock; a bag's is 0 at its first message.
        to_s: last second that counts.

    Raises:
        AlulaError: the log is unreadable, broken or of another format; nothing flown in the window.
    """
    recording = _record(Path(log), policy, robot, topics or {}).window(from_s, to_s)
    gaps = list(recording.gaps)
    tracking = track(recording)
    if tracking is None:
        gaps.append("no tracking error: position or reference is missing while the policy flew")
    timing = time_loop(recording, policy.contract.control_dt if policy else None)
    departures: tuple[Gap, ...] = ()
    if robot is None:
        gaps.append("no sim-to-real gap: the robot is not known; give it with --robot")
    else:
        measured = measure_gap(recording, robot)
        if isinstance(measured, str):
            gaps.append(f"no sim-to-real gap: {measured}")
        else:
            departures = measured
    agreement = None
    if policy is not None:
        compared = compare(recording, policy)
        if isinstance(compared, str):
            gaps.append(f"no comparison with the policy: {compared}")
        else:
            agreement = compared
    return FlightReport(
        recording=recording,
        robot=robot.name if robot else None,
        policy=policy_name,
        tracking=tracking,
        timing=timing,
        gap=departures,
        agreement=agreement,
        gaps=tuple(dict.fromkeys(gaps)),
    )


def _record(
    path: Path, policy: Policy | None, robot: Multirotor | None, topics: dict[str, str]
) -> Recording:
    unknown = sorted(set(topics) - set(ROLES))
    if unknown:
        raise AlulaError(f"unknown topic {unknown[0]!r}; known: {', '.join(ROLES)}")
    if is_rosbag(path):
        return record_bag(str(path), topics)
    if path.is_dir():
        raise AlulaError(
            f"log {path}: a folder without metadata.yaml; allowed: a rosbag2 or a file"
        )
    if topics:
        raise AlulaError(f"log {path}: --topics is for rosbag2, and this is none")
    rotors = robot.n_rotors if robot else policy.contract.action_size if policy else 4
    return record_firmware(str(path), rotors, policy.contract.supplied_size if policy else None)


def _tracking_json(t: Tracking) -> dict[str, Any]:
    return {
        "rmse_m": t.rmse_m,
        "rmse_axes_m": t.rmse_axes_m,
        "mean_axes_m": t.mean_axes_m,
        "percentiles_m": t.percentiles_m,
        "max_m": t.max_m,
        "velocity_rmse_m_s": t.velocity_rmse_m_s,
        "samples": t.samples,
    }


def _spread_json(s: Spread | None) -> dict[str, Any] | None:
    if s is None:
        return None
    return {
        "mean_s": s.mean_s,
        "std_s": s.std_s,
        "percentiles_s": s.percentiles_s,
        "max_s": s.max_s,
        "samples": s.samples,
    }


def _timing_json(t: Timing) -> dict[str, Any]:
    return {
        "latency": _spread_json(t.latency),
        "latency_meaning": t.latency_meaning,
        "period": _spread_json(t.period),
        "control_dt": t.control_dt,
        "control_dt_known": t.control_dt_known,
        "missed": t.missed,
        "worst_gap_s": t.worst_gap_s,
        "compute": _spread_json(t.compute),
    }


def _gap_json(g: Gap) -> dict[str, Any]:
    return {
        "horizon_s": g.horizon_s,
        "windows": g.windows,
        "diverged": g.diverged,
        **{
            key: {"sim": d.sim, "bias": d.bias, "hold": d.hold, "constant": d.constant}
            for key, d in g.quantities.items()
        },
    }


def _agreement_json(a: Agreement) -> dict[str, Any]:
    return {
        "source": a.source,
        "agrees": a.agrees,
        "rms": a.rms,
        "varies": a.varies,
        "rms_actions": a.rms_actions,
        "close": a.close,
        "steps": a.steps,
        "suspicion": a.suspicion,
        "suspicion_rms": a.suspicion_rms,
    }
