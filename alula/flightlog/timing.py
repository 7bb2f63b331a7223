"""How long a command took and how regularly commands came."""

from dataclasses import dataclass

import numpy as np

from alula.flightlog.recording import Recording

PERCENTILES = (50, 90, 99)
LATE = 1.5
"""A period longer than this many control_dt missed a deadline."""


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Distribution of times."""

    mean_s: float
    """[s]."""
    std_s: float
    """Standard deviation [s]."""
    percentiles_s: dict[int, float]
    """[s]."""
    max_s: float
    """[s]."""
    samples: int
    """Count."""
    values_s: np.ndarray
    """All of them [s]."""


@dataclass(frozen=True, kw_only=True)
class Timing:
    """The control loop's times while the policy flew."""

    latency: Spread | None
    """From a sample to the command that answers it."""
    latency_meaning: str
    """Between which instants, or why there is none."""
    period: Spread | None
    """Between commands; None where the log does not hold every command."""
    control_dt: float
    """Nominal period [s]."""
    control_dt_known: bool
    """Whether it is the policy's; else the median period of the log."""
    missed: int | None
    """Deadlines without a command: periods over LATE control_dt, counted in whole steps."""
    worst_gap_s: float | None
    """Longest time without a command [s]."""
    compute: Spread | None
    """Computing time of a step, as the robot measured it."""


def time_loop(recording: Recording, control_dt: float | None) -> Timing | None:
    """Latency, jitter and missed deadlines; None where the log holds no commands.

    Args:
        recording: the flight.
        control_dt: the policy's [s], where it is known.
    """
    loop = recording.loop
    if loop is None:
        return None
    flying = recording.is_flying(loop.sent_s)
    sent = np.sort(loop.sent_s[flying])
    if len(sent) < 3:
        return None
    # periods within one span of flight only
    span = np.searchsorted([a for a, _ in recording.flying], sent, side="right")
    periods = np.diff(sent)[np.diff(span) == 0]
    nominal = control_dt or float(np.median(periods))
    latency = None if loop.latency_s is None else _spread(loop.latency_s[flying])
    missed = worst = None
    if loop.every_command and len(periods):
        late = periods > LATE * nominal
        missed = int(np.sum(np.round(periods[late] / nominal) - 1.0))
        worst = float(periods.max())
    compute = recording.compute_s
    if compute is not None:
        compute = _spread(compute.value[recording.is_flying(compute.time_s), 0])
    return Timing(
        latency=latency,
        latency_meaning=loop.meaning,
        period=_spread(periods) if loop.every_command else None,
        control_dt=nominal,
        control_dt_known=control_dt is not None,
        missed=missed,
        worst_gap_s=worst,
        compute=compute,
    )


def _spread(values: np.ndarray) -> Spread | None:
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    return Spread(
        mean_s=float(values.mean()),
        std_s=float(values.std()),
        percentiles_s={q: float(np.percentile(values, q)) for q in PERCENTILES},
        max_s=float(values.max()),
        samples=len(values),
        values_s=values,
    )
