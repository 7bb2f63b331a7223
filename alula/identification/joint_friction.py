"""Friction of one joint: a linear fit beside whatever else moves the joint's torque."""

from dataclasses import dataclass, replace

import numpy as np

from alula.identification.arm_samples import SMOOTHING
from alula.identification.intervals import bootstrap_fit

SHRINK: tuple[float | None, ...] = (
    None,
    1.0,
    0.3,
    0.1,
    0.03,
    0.01,
    3e-3,
    1e-3,
    3e-4,
    1e-4,
    1e-5,
    1e-6,
)
"""How firmly links keep the masses of the model: the ridge on unit-rms columns; None keeps them as they are."""
FOLDS = 5
"""Consecutive parts of a log; each is predicted by fits on the others."""
WORTH = 0.96
"""Links are corrected only if that lowers the squared error of prediction to less than this share."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What one joint's effort y is to be explained with (S samples).

    y = coulomb sign(qd) + rest @ b + links @ c, with sign(qd) smoothed near 0.
    """

    signs: np.ndarray
    """tanh(qd / s) for each s of SMOOTHING (S, K)."""
    rest: np.ndarray
    """Other columns (S, R)."""
    names: tuple[str, ...]
    """Names of these columns: viscous, offset, acceleration, .. (R)."""
    links: np.ndarray
    """Torque of changes of the links' masses, columns of rms 1 (S, M); M may be 0."""
    y: np.ndarray
    """Measured torque less what the model knows, or measured current (S,)."""

    def rows(self, which: np.ndarray) -> "Problem":
        """Some of the samples."""
        cut = {name: getattr(self, name)[which] for name in ("signs", "rest", "links", "y")}
        return replace(self, **cut)


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A fitted problem."""

    smoothing: int
    """Index into SMOOTHING."""
    shrink: float | None
    """How firmly links kept their masses; None: entirely."""
    own: np.ndarray
    """Coefficients of sign(qd) and of the other columns (1 + R,)."""
    links: np.ndarray
    """Coefficients of the links' columns (M,)."""

    def of_links(self, problem: Problem) -> np.ndarray:
        """What the correction of the links adds (S,)."""
        return problem.links @ self.links

    def predict(self, problem: Problem) -> np.ndarray:
        """Fitted y (S,)."""
        own = np.column_stack((problem.signs[:, self.smoothing], problem.rest))
        return own @ self.own + self.of_links(problem)


def unit_rms(columns: np.ndarray) -> np.ndarray:
    """Columns (S, M) scaled to rms 1, without those that are next to nothing."""
    size = np.sqrt(np.mean(columns**2, axis=0))
    there = size > 1e-6 * max(float(size.max(initial=0.0)), 1e-12)
    return columns[:, there] / size[there]


def fit(problem: Problem, shrink: tuple[float | None, ...] = SHRINK) -> Fit:
    """Least squares, with the smoothing and the freedom of the links that predict unseen parts best.

    Each of FOLDS consecutive parts is predicted by the fit on the others; the pair with the least squared error is
    then fitted to all.

    Args:
        problem: what to explain.
        shrink: degrees of freedom of the links to try; None among them.
    """
    z, own_width = _columns(problem)
    folds = np.array_split(np.arange(len(z)), FOLDS)
    grams = [z[f].T @ z[f] for f in folds]
    total = np.sum(grams, axis=0)
    best: dict[bool, tuple[float, int, float | None]] = {}
    for k in range(len(SMOOTHING)):
        for firm in shrink if problem.links.shape[1] else (None,):
            at = _chosen(k, firm, own_width, z.shape[1])
            error = 0.0
            for gram in grams:
                c = _solve(total - gram, at, firm, own_width)
                # |y - X c|^2 from the products of the columns alone
                step = np.append(c, -1.0)
                error += float(step @ gram[np.ix_([*at, -1], [*at, -1])] @ step)
            key = firm is None
            if key not in best or error < best[key][0]:
                best[key] = (error, k, firm)
    error, k, firm = best[True]
    if False in best and best[False][0] < WORTH * error:
        _, k, firm = best[False]
    at = _chosen(k, firm, own_width, z.shape[1])
    c = _solve(total, at, firm, own_width)
    n = 1 + len(problem.names)
    links = np.zeros(problem.links.shape[1]) if firm is None else c[n:]
    return Fit(smoothing=k, shrink=firm, own=c[:n], links=links)


def _columns(problem: Problem) -> tuple[np.ndarray, int]:
    """All columns and y in one matrix, over sqrt(S); and how many are the joint's own."""
    z = np.column_stack((problem.signs, problem.rest, problem.links, problem.y))
    return z / np.sqrt(len(z)), problem.signs.shape[1] + problem.rest.shape[1]


def _chosen(k: int, shrink: float | None, own_width: int, width: int) -> list[int]:
    """Columns of a fit: one sign, the rest, and the links if they are free."""
    own = [k, *range(len(SMOOTHING), own_width)]
    return own if shrink is None else [*own, *range(own_width, width - 1)]


def _solve(gram: np.ndarray, at: list[int], shrink: float | None, own_width: int) -> np.ndarray:
    """Coefficients from the products of the columns; the ridge acts on the links alone."""
    a = gram[np.ix_(at, at)].copy()
    if shrink is not None:
        links = np.array(at) >= own_width
        a[links, links] += shrink
    size = np.sqrt(np.maximum(np.diag(a), 1e-300))
    # a column that does not move (a joint at rest) has no part in the fit
    a = a / np.outer(size, size) + 1e-10 * np.eye(len(at))
    return np.linalg.solve(a, gram[at, -1] / size) / size


def deviations(problem: Problem, fitted: Fit) -> tuple[np.ndarray, float]:
    """Bootstrap deviations of the joint's own coefficients (B, 1 + R), and the factor for few blocks.

    The links' part is taken out of each column first (Frisch and Waugh 1933). The speed of smoothing is free too:
    its column is coulomb d sign / d s, from the neighbour on its grid.
    """
    k = fitted.smoothing
    neighbour = problem.signs[:, k + 1 if k + 1 < len(SMOOTHING) else k - 1]
    sign = problem.signs[:, k]
    own = np.column_stack((sign, problem.rest, neighbour - sign))
    if fitted.shrink is not None:
        links, n = problem.links, len(own)
        inner = links.T @ links / n + fitted.shrink * np.eye(links.shape[1])
        own = own - links @ np.linalg.solve(inner, links.T @ own / n)
    steps, widen = bootstrap_fit(own, problem.y - fitted.predict(problem))
    return steps[:, :-1], widen


def held_out_rms(problem: Problem, shrink: tuple[float | None, ...] = SHRINK) -> float:
    """Root-mean-square error of each half as predicted by the fit on the other."""
    halves = np.array_split(np.arange(len(problem.y)), 2)
    errors = []
    for known, unseen in (halves, halves[::-1]):
        part = problem.rows(unseen)
        errors.append(part.y - fit(problem.rows(known), shrink).predict(part))
    return rms(np.concatenate(errors))


def rms(x: np.ndarray) -> float:
    """Root of the mean square."""
    return float(np.sqrt(np.mean(x**2)))
