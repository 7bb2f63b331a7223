"""A joint log on one slow grid: what the fits work on."""

from dataclasses import dataclass

import numpy as np

from alula.errors import AlulaError
from alula.identification.logs import FlightLog
from alula.identification.resample import Grid, rate_hz, regular

CELL_S = 0.004
"""Width of the cells that a log is averaged over, or the log's own step where that is longer [s]."""
CUTOFF_HZ = 10.0
"""Low-pass of everything, zero phase: faster motion is flexibility and noise, not friction [Hz]."""
PER_CUTOFF = 5
"""Samples kept in a period of the cut-off frequency."""
SMOOTHING = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4)
"""Speeds over which Coulomb friction may rise from 0 to its full value [rad/s or m/s]."""
EDGE_S = 0.2
"""Left out at the ends of the log and beside gaps, where the low-pass knows one side only [s]."""
MAX_SLIP = 0.5
"""Largest rms difference between velocity and the change of position, in rms velocities."""


@dataclass(frozen=True, kw_only=True)
class Samples:
    """A log, filtered and thinned out (S samples, J joints)."""

    time_s: np.ndarray
    """Log's clock [s] (S,)."""
    q: np.ndarray
    """Positions [rad or m] (S, J)."""
    qd: np.ndarray
    """Velocities [rad/s or m/s] (S, J)."""
    qdd: np.ndarray
    """Accelerations [rad/s^2 or m/s^2] (S, J)."""
    sign: np.ndarray
    """tanh(qd / s) for each s of SMOOTHING, taken before the low-pass (K, S, J)."""
    tau: np.ndarray | None
    """Measured torques [N m or N] (S, J)."""
    current: np.ndarray | None
    """Measured motor currents [A] (S, J)."""

    def rows(self, which: np.ndarray) -> "Samples":
        """Some of the samples."""
        return Samples(
            time_s=self.time_s[which],
            q=self.q[which],
            qd=self.qd[which],
            qdd=self.qdd[which],
            sign=self.sign[:, which],
            tau=None if self.tau is None else self.tau[which],
            current=None if self.current is None else self.current[which],
        )


def prepare(log: FlightLog) -> Samples:
    """Bring a joint log onto one grid, low-pass everything alike, and differentiate velocity.

    The low-pass acts on torque and on friction's sign(qd) alike, so that the steps of the one meet those of the other.

    Raises:
        AlulaError: too short, or a velocity that is not the change of its position.
    """
    from scipy.signal import butter, sosfiltfilt

    n = sum(name[1:].isdecimal() for name in log.signals if name[0] == "q")
    dt = max(CELL_S, 1.0 / rate_hz(log.signals["q1"]))
    grid = regular(log, tuple(log.signals), dt)
    cutoff = min(CUTOFF_HZ, 0.2 / dt)
    if len(grid.time_s) < 8 * EDGE_S / dt:
        raise AlulaError(f"log {log.path}: {len(grid.time_s) * dt:.2f} s; allowed: 2 s or more")
    low_pass = butter(4, cutoff, fs=1.0 / dt, output="sos")

    def smooth(x: np.ndarray) -> np.ndarray:
        return sosfiltfilt(low_pass, x, axis=0)

    def stack(kind: str) -> np.ndarray | None:
        names = tuple(f"{kind}{k + 1}" for k in range(n))
        return grid.stack(*names) if names[0] in grid.values else None

    raw_q, raw_qd, tau, current = (stack(kind) for kind in ("q", "qd", "tau", "i"))
    assert raw_q is not None
    q = smooth(raw_q)
    change = np.gradient(q, dt, axis=0)
    raw_qd = smooth(np.gradient(raw_q, dt, axis=0)) if raw_qd is None else raw_qd
    qd = smooth(raw_qd)
    keep = _kept(grid, dt, max(int(1.0 / (PER_CUTOFF * cutoff * dt)), 1))
    _check_velocity(log.path, change[keep], qd[keep])
    return Samples(
        time_s=grid.time_s[keep],
        q=q[keep],
        qd=qd[keep],
        qdd=np.gradient(qd, dt, axis=0)[keep],
        sign=np.stack([smooth(np.tanh(raw_qd / s))[keep] for s in SMOOTHING]),
        tau=None if tau is None else smooth(tau)[keep],
        current=None if current is None else smooth(current)[keep],
    )


def _kept(grid: Grid, dt: float, step: int) -> np.ndarray:
    """Every step-th cell that is not near an end or a gap."""
    edge = int(np.ceil(EDGE_S / dt))
    bad = np.concatenate((np.ones(edge), ~grid.valid, np.ones(edge)))
    near = np.convolve(bad, np.ones(2 * edge + 1), mode="valid")
    return np.flatnonzero(near == 0.0)[::step]


def _check_velocity(path: str, change: np.ndarray, qd: np.ndarray) -> None:
    for k in range(qd.shape[1]):
        speed, slip = np.sqrt(np.mean(qd[:, k] ** 2)), np.sqrt(np.mean((qd - change)[:, k] ** 2))
        moves = np.sqrt(np.mean(change[:, k] ** 2)) > 0.02
        if moves and slip > MAX_SLIP * speed:
            raise AlulaError(
                f"log {path}: qd{k + 1} is not the change of q{k + 1} (rms {slip:.3g} apart at {speed:.3g} rad/s); "
                "allowed: rad and rad/s of the same joint"
            )
