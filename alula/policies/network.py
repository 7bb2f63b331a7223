"""The dense network every learner trains and every exporter writes, as plain arrays."""

from dataclasses import dataclass

import numpy as np

from alula.errors import AlulaError


@dataclass(frozen=True, kw_only=True)
class Network:
    """Normaliser, dense ReLU layers and a smooth bounded output, all float32.

    ::

        x = clip((observation - mean) * scale, -clip, clip)
        h = relu(x @ W + b)             for every layer but the last
        z = h @ W + b
        action = z / sqrt(1 + z^2)      in (-1, 1)
    """

    mean: np.ndarray
    """Observation mean [O]."""
    scale: np.ndarray
    """Reciprocal observation scale [O]."""
    clip: float
    """Bound of the normalised observation."""
    weights: tuple[np.ndarray, ...]
    """Layer matrices, each [inputs, outputs]."""
    biases: tuple[np.ndarray, ...]
    """Layer biases, each [outputs]."""

    def __post_init__(self) -> None:
        sizes = [self.mean.shape[0], *(w.shape[1] for w in self.weights)]
        shapes_fit = (
            self.mean.shape == self.scale.shape
            and len(self.weights) == len(self.biases) >= 1
            and all(
                w.shape == (i, o) for w, i, o in zip(self.weights, sizes, sizes[1:], strict=False)
            )
            and all(b.shape == (o,) for b, o in zip(self.biases, sizes[1:], strict=False))
        )
        if not shapes_fit:
            raise AlulaError(f"network layers do not fit together: sizes {sizes}")
        arrays = (self.mean, self.scale, *self.weights, *self.biases)
        if not all(np.isfinite(a).all() for a in arrays):
            raise AlulaError("network holds NaN or infinite numbers")

    def __call__(self, observation: np.ndarray) -> np.ndarray:
        """Action [N, A] for raw observations [N, O]."""
        h = np.clip((observation - self.mean) * self.scale, -self.clip, self.clip)
        for w, b in zip(self.weights[:-1], self.biases[:-1], strict=True):
            h = np.maximum(h @ w + b, 0.0)
        z = h @ self.weights[-1] + self.biases[-1]
        return z / np.sqrt(1.0 + z * z)
