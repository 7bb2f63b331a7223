"""95 % intervals that stay honest when residuals are correlated in time."""

import numpy as np

SAMPLES = 400
"""Bootstrap replicates."""


def correlation_time(x: np.ndarray) -> float:
    """Integrated autocorrelation time of a series, in samples (1 for white noise).

    tau = 1 + 2 sum_{k=1..w} rho_k with the window w = first k >= 5 tau (Sokal 1997).
    """
    x = np.asarray(x, dtype=np.float64) - np.mean(x)
    n = x.size
    power = np.abs(np.fft.rfft(x, 2 * n)) ** 2
    acf = np.fft.irfft(power)[:n]
    if acf[0] <= 0.0:
        return 1.0
    tau = 2.0 * np.cumsum(acf / acf[0]) - 1.0
    beyond = np.flatnonzero(np.arange(n) >= 5.0 * tau)
    return float(max(tau[beyond[0]] if beyond.size else tau[-1], 1.0))


def block_length(scores: np.ndarray) -> int:
    """Block length for a moving-block bootstrap of series (T, p), in samples.

    Five correlation times of the slowest series, at least T^(1/3) and at most T / 8, so that at
    least eight independent blocks remain.
    """
    n = scores.shape[0]
    tau = max(correlation_time(scores[:, j]) for j in range(scores.shape[1]))
    return int(np.clip(5.0 * tau, max(n ** (1.0 / 3.0), 1.0), max(n // 8, 1)))


def block_sums(terms: np.ndarray, length: int, rng: np.random.Generator) -> np.ndarray:
    """Sums of T terms over SAMPLES moving-block resamples.

    Args:
        terms: addends (T, ...).
        length: block length in samples.
        rng: random source.

    Returns:
        Resampled sums (SAMPLES, ...).
    """
    n = terms.shape[0]
    running = np.concatenate((np.zeros((1, *terms.shape[1:])), np.cumsum(terms, axis=0)))
    per_block = running[length:] - running[:-length]
    count = max(round(n / length), 1)
    picks = rng.integers(0, per_block.shape[0], size=(SAMPLES, count))
    total = np.zeros((SAMPLES, *terms.shape[1:]))
    for j in range(count):
        total += per_block[picks[:, j]]
    return total


def bootstrap_fit(
    jacobian: np.ndarray, residual: np.ndarray, *, seed: int = 0
) -> tuple[np.ndarray, float]:
    """Moving-block bootstrap of a least-squares estimate, linearised at its optimum.

    Each replicate draws blocks with replacement and takes one Gauss-Newton step,
    d = (sum J'J)^-1 sum J'e over the drawn blocks: exact for a linear model, first order else.

    Args:
        jacobian: derivative of the model by the parameters (T, P).
        residual: measured - fitted (T,).
        seed: of the resampling.

    Returns:
        deviations from the estimate (SAMPLES, P), and the factor by which 2 sigma grows because
        few blocks are independent: Student t(0.975, blocks - 1) / 1.96.
    """
    scale = np.sqrt(np.mean(jacobian**2, axis=0))
    scale[scale == 0.0] = 1.0
    j = jacobian / scale
    score = j * residual[:, None]
    length = block_length(score)
    n_blocks = max(residual.size // length, 4)
    rng = np.random.default_rng(seed)
    # The same blocks must serve J'J and J'e: draw them together.
    joint = np.concatenate((np.einsum("ti,tj->tij", j, j), score[:, :, None]), axis=2)
    sums = block_sums(joint, length, rng)
    normal = sums[:, :, :-1] + 1e-12 * residual.size * np.eye(j.shape[1])
    steps = np.linalg.solve(normal, sums[:, :, -1:])[:, :, 0]
    return steps / scale, student_t_975(n_blocks - 1) / 1.96


def interval(estimate: float, deviations: np.ndarray, widen: float = 1.0) -> tuple[float, float]:
    """95 % interval around an estimate from bootstrap deviations (SAMPLES,)."""
    half = 1.96 * widen * float(np.std(deviations))
    return estimate - half, estimate + half


def student_t_975(dof: float) -> float:
    """97.5 % point of Student's t, Cornish-Fisher expansion (Abramowitz & Stegun 26.7.5).

    Within 1 % for dof >= 3. Written out, as chi_square is, because scipy.stats takes a second
    to import.
    """
    z = 1.959963985
    terms = (
        (z**3 + z) / 4.0,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96.0,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384.0,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160.0,
    )
    return z + sum(term / dof ** (k + 1) for k, term in enumerate(terms))


def chi_square(dof: float) -> tuple[float, float]:
    """2.5 % and 97.5 % points of chi-square (Wilson and Hilferty 1931); within 1 % for dof >= 15."""
    z, a = 1.959963985, 2.0 / (9.0 * dof)
    low, high = (dof * (1.0 - a + sign * z * np.sqrt(a)) ** 3 for sign in (-1.0, 1.0))
    return float(low), float(high)
