"""Where a vehicle shall be, as functions of time: through given points, or smoothly from here to there."""

import itertools
import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

import numpy as np

from alula.deploy_ros2.samples import Trajectory
from alula.errors import AlulaError

MAX_POINTS = 100_000
"""Most points of one path; beyond, a message is taken for damaged."""
MAX_PATHS = 100
"""Most paths of one vehicle that are kept; beyond, the oldest are forgotten."""
PAST = 1.0
"""How long a path is kept after another took its place [s]; with the usual limits no measurement is used that is so old."""


def resting(position_w: np.ndarray) -> Trajectory:
    """Rest at a position [m] (3)."""
    here, still = np.array(position_w, float), np.zeros(3)
    return lambda _: (here, still)


def approach(
    start_w: np.ndarray, goal_w: np.ndarray, begin: float, *, speed: float, acceleration: float
) -> Trajectory:
    """From rest to rest along a straight line with the least jerk, then stay.

    Args:
        start_w: where it begins [m] (3).
        goal_w: where it ends [m] (3).
        begin: when it begins [s].
        speed: largest speed on the way [m/s].
        acceleration: largest acceleration on the way [m/s^2].
    """
    start, way = np.array(start_w, float), np.asarray(goal_w, float) - start_w
    distance = float(np.linalg.norm(way))
    # s(x) = 10 x^3 - 15 x^4 + 6 x^5 with x = t / T: max s' = 15/8 at x = 1/2, max s'' = 10/sqrt(3)
    duration = max(
        1.875 * distance / speed, math.sqrt(10.0 / math.sqrt(3.0) * distance / acceleration)
    )

    def path(time: float) -> tuple[np.ndarray, np.ndarray]:
        x = min(max((time - begin) / duration, 0.0), 1.0) if duration > 0.0 else 1.0
        s = x * x * x * (10.0 + x * (-15.0 + 6.0 * x))
        ds = 30.0 * x * x * (1.0 - x) ** 2 / duration if duration > 0.0 else 0.0
        return start + s * way, ds * way

    return path


def through(
    times: Sequence[float], positions_w: np.ndarray, velocities_w: np.ndarray
) -> Trajectory:
    """Through points with given velocities by cubic polynomials; rests at the first and last point outside.

    Args:
        times: rising times [s] (K).
        positions_w: [m] (K, 3).
        velocities_w: [m/s] (K, 3).

    Raises:
        AlulaError: no points or too many, times that do not rise, or numbers that are not finite.
    """
    t = [float(x) for x in times]
    p, v = np.asarray(positions_w, float), np.asarray(velocities_w, float)
    if not 1 <= len(t) <= MAX_POINTS or p.shape != (len(t), 3) or v.shape != p.shape:
        raise AlulaError(f"a path of {len(t)} points; allowed: 1 to {MAX_POINTS}, 3 numbers each")
    if not (np.isfinite(p).all() and np.isfinite(v).all() and np.isfinite(t).all()):
        raise AlulaError("a path with NaN or infinite numbers; allowed: finite numbers")
    if any(b <= a for a, b in itertools.pairwise(t)):
        raise AlulaError("a path whose times do not rise; allowed: each later than the one before")
    still = np.zeros(3)

    def path(time: float) -> tuple[np.ndarray, np.ndarray]:
        if time < t[0]:
            return p[0], still
        if time >= t[-1]:
            return p[-1], still
        k = bisect_right(t, time) - 1
        h = t[k + 1] - t[k]
        x = (time - t[k]) / h
        # Cubic Hermite: (1 + 2x)(1-x)^2 p0 + x(1-x)^2 h v0 + x^2(3-2x) p1 + x^2(x-1) h v1
        a, b = (1.0 + 2.0 * x) * (1.0 - x) ** 2, x * (1.0 - x) ** 2 * h
        c, d = x * x * (3.0 - 2.0 * x), x * x * (x - 1.0) * h
        position = a * p[k] + b * v[k] + c * p[k + 1] + d * v[k + 1]
        # its derivative by time
        da, db = 6.0 * x * (x - 1.0) / h, (1.0 - x) * (1.0 - 3.0 * x)
        velocity = da * (p[k] - p[k + 1]) + db * v[k] + x * (3.0 * x - 2.0) * v[k + 1]
        return position, velocity

    return path


class Spliced:
    """A path that is replaced from some time on, again and again; times before keep the path that was valid then.

    A measurement is older than the message that has come since. Compared with the newest path alone, which rests before
    it begins, a vehicle on its way would for one step seem to be meant to stand.
    """

    def __init__(self, path: Trajectory) -> None:
        self._begins, self._paths = [-math.inf], [path]

    def __call__(self, time: float) -> tuple[np.ndarray, np.ndarray]:
        """Position [m] and velocity [m/s] at a time [s]."""
        return self._paths[bisect_right(self._begins, time) - 1](time)

    def replace(self, path: Trajectory, begin: float, now: float) -> None:
        """From `begin` on [s] follow this path, and none that would have begun later; now is the present [s]."""
        k = max(bisect_left(self._begins, begin), 1)
        self._begins[k:], self._paths[k:] = [begin], [path]
        # The path of PAST ago stays, and those since.
        gone = max(bisect_right(self._begins, now - PAST) - 1, len(self._begins) - MAX_PATHS)
        if gone > 0:
            del self._begins[:gone], self._paths[:gone]
            self._begins[0] = -math.inf


def figure_eight(
    length: float, width: float, lap: float, centre_w: Sequence[float], time: float
) -> tuple[np.ndarray, np.ndarray]:
    """Position [m] and velocity [m/s] on a horizontal figure-eight about a centre at a time [s]."""
    # x = l/2 sin w t, y = b/2 sin 2 w t
    w = 2.0 * math.pi / lap
    a, b = 0.5 * length, 0.5 * width
    position = np.array([a * math.sin(w * time), b * math.sin(2.0 * w * time), 0.0]) + centre_w
    velocity = np.array([a * w * math.cos(w * time), 2.0 * b * w * math.cos(2.0 * w * time), 0.0])
    return position, velocity
