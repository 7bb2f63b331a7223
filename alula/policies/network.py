"""The network every learner trains and every exporter writes, as plain arrays: dense, or with a GRU."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from alula.errors import AlulaError

Step = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""One step of N robots: observations [N, O] and states [N, H] to actions [N, A] and next states [N, H]."""


@dataclass(frozen=True, kw_only=True)
class Gru:
    """Gated recurrent unit; the three gates stand side by side in the order reset, update, new.

    ::

        r  = sigmoid(x Wr + br + h Ur + cr)
        z  = sigmoid(x Wz + bz + h Uz + cz)
        n  = tanh(x Wn + bn + r * (h Un + cn))
        h' = (1 - z) * n + z * h

    This is the order and the formula of torch's GRUCell (Cho et al., arXiv 1406.1078, with the reset
    applied after the product). A state h within [-1, 1] stays there.
    """

    kernel: np.ndarray
    """Input matrix W [I, 3H]."""
    recurrent: np.ndarray
    """State matrix U [H, 3H]."""
    bias: np.ndarray
    """Input bias b [3H]."""
    recurrent_bias: np.ndarray
    """State bias c [3H]."""

    def __post_init__(self) -> None:
        width = 3 * self.recurrent.shape[0]
        shapes_fit = (
            self.kernel.ndim == 2
            and min(self.kernel.shape[0], width) >= 1
            and self.kernel.shape[1] == width
            and self.recurrent.shape[1:] == self.bias.shape == self.recurrent_bias.shape == (width,)
        )
        if not shapes_fit:
            raise AlulaError(
                f"GRU arrays of shapes {[a.shape for a in self.arrays]} do not fit together; "
                "allowed: [I, 3H], [H, 3H], [3H], [3H]"
            )
        if not all(np.isfinite(a).all() for a in self.arrays):
            raise AlulaError("GRU holds NaN or infinite numbers")

    @property
    def arrays(self) -> tuple[np.ndarray, ...]:
        """All arrays, in the order of the fields."""
        return self.kernel, self.recurrent, self.bias, self.recurrent_bias

    @property
    def state_size(self) -> int:
        """Floats H of the state."""
        return self.recurrent.shape[0]

    def step(self, x: np.ndarray, h: np.ndarray) -> np.ndarray:
        """Next state h' [N, H] for inputs x [N, I] and states h [N, H]."""
        return self.update(x @ self.kernel + self.bias, h @ self.recurrent + self.recurrent_bias, h)

    @staticmethod
    def update(from_input: np.ndarray, from_state: np.ndarray, h: np.ndarray) -> np.ndarray:
        """Next state h' [N, H] from x W + b [N, 3H], h U + c [N, 3H] and h [N, H]."""
        x_r, x_z, x_n = np.split(from_input, 3, axis=1)
        h_r, h_z, h_n = np.split(from_state, 3, axis=1)
        r, z = _sigmoid(x_r + h_r), _sigmoid(x_z + h_z)
        n = np.tanh(x_n + r * h_n)
        return (1.0 - z) * n + z * h

    def astype(self, dtype: type[np.floating]) -> "Gru":
        """The same unit with every number of another type."""
        kernel, recurrent, bias, recurrent_bias = (
            np.ascontiguousarray(a, dtype) for a in self.arrays
        )
        return Gru(kernel=kernel, recurrent=recurrent, bias=bias, recurrent_bias=recurrent_bias)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    # 1 / (1 + exp(-x)) = (1 + tanh(x / 2)) / 2, which overflows for no x.
    return 0.5 + 0.5 * np.tanh(0.5 * x)


@dataclass(frozen=True, kw_only=True)
class Network:
    """Normaliser, dense ReLU layers, perhaps a GRU between them, and a smooth bounded output.

    ::

        x = clip((observation - mean) * scale, -clip, clip)
        h = relu(x @ W + b)             for every layer but the last
        z = h @ W + b
        action = z / sqrt(1 + z^2)      in (-1, 1)

    With a GRU, the output of layer `gru_after - 1` (x, where `gru_after` is 0) goes through it to layer
    `gru_after`. Its state is zero after a reset and is carried from step to step by the caller.
    """

    mean: np.ndarray
    """Observation mean [O]."""
    scale: np.ndarray
    """Reciprocal observation scale [O]."""
    clip: float
    """Bound of the normalised observation."""
    weights: tuple[np.ndarray, ...]
    """Matrices of the dense layers, each [inputs, outputs]."""
    biases: tuple[np.ndarray, ...]
    """Biases of the dense layers, each [outputs]."""
    gru: Gru | None = None
    """Recurrent unit; None for a feed-forward network."""
    gru_after: int = 0
    """Number of dense layers before the GRU; at least the last one comes after it."""

    def __post_init__(self) -> None:
        self._check_place()
        # Outputs of what stands before each dense layer.
        sizes = [self.mean.shape[0], *(w.shape[1] for w in self.weights)]
        inputs = list(sizes)
        if self.gru is not None:
            inputs[self.gru_after] = self.gru.state_size
        shapes_fit = (
            self.mean.shape == self.scale.shape
            and len(self.weights) == len(self.biases) >= 1
            and all(
                w.shape == (i, o) for w, i, o in zip(self.weights, inputs, sizes[1:], strict=False)
            )
            and all(b.shape == (o,) for b, o in zip(self.biases, sizes[1:], strict=False))
            and (self.gru is None or self.gru.kernel.shape[0] == sizes[self.gru_after])
        )
        if not shapes_fit:
            unit = (
                "" if self.gru is None else f", GRU {self.gru.kernel.shape} after {self.gru_after}"
            )
            raise AlulaError(f"network layers do not fit together: sizes {sizes}{unit}")
        arrays = (self.mean, self.scale, *self.weights, *self.biases)
        if not all(np.isfinite(a).all() for a in arrays):
            raise AlulaError("network holds NaN or infinite numbers")

    def _check_place(self) -> None:
        last = 0 if self.gru is None else len(self.weights) - 1
        if not 0 <= self.gru_after <= last:
            raise AlulaError(f"gru_after is {self.gru_after}; allowed: 0 to {last}")

    @property
    def state_size(self) -> int:
        """Floats H of the recurrent state; 0 for a feed-forward network."""
        return 0 if self.gru is None else self.gru.state_size

    @property
    def layer_sizes(self) -> list[int]:
        """Floats of the observation and of the output of each layer, the GRU included."""
        sizes = [self.mean.shape[0], *(b.shape[0] for b in self.biases)]
        if self.gru is not None:
            sizes.insert(self.gru_after + 1, self.gru.state_size)
        return sizes

    def step(self, observation: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Action [N, A] and next state [N, H] for raw observations [N, O] and states [N, H].

        The state of a feed-forward network is [N, 0] and comes back as it is.
        """
        h = np.clip((observation - self.mean) * self.scale, -self.clip, self.clip)
        last = len(self.weights) - 1
        for i, (w, b) in enumerate(zip(self.weights, self.biases, strict=True)):
            if self.gru is not None and i == self.gru_after:
                h = state = self.gru.step(h, state)
            h = h @ w + b
            if i < last:
                h = np.maximum(h, 0.0)
        return h / np.sqrt(1.0 + h * h), state

    def __call__(self, observation: np.ndarray) -> np.ndarray:
        """Action [N, A] of a feed-forward network for raw observations [N, O].

        Raises:
            AlulaError: the network has a state.
        """
        if self.gru is not None:
            raise AlulaError(
                f"network has a state of {self.state_size} floats; allowed: `step` or a Controller"
            )
        return self.step(observation, np.zeros((len(observation), 0), np.float32))[0]

    def astype(self, dtype: type[np.floating]) -> "Network":
        """The same network with every number of another type."""

        def convert(array: np.ndarray) -> np.ndarray:
            return np.ascontiguousarray(array, dtype)

        return replace(
            self,
            mean=convert(self.mean),
            scale=convert(self.scale),
            clip=float(dtype(self.clip)),
            weights=tuple(convert(w) for w in self.weights),
            biases=tuple(convert(b) for b in self.biases),
            gru=None if self.gru is None else self.gru.astype(dtype),
        )


class Controller:
    """A policy at work on N robots: calling it makes one step and keeps their recurrent states.

    For a feed-forward policy the states are empty.
    """

    def __init__(self, step: Step, state_size: int, n: int) -> None:
        self._step = step
        self.state = np.zeros((n, state_size), np.float32)
        """Recurrent states [N, H]."""

    def reset(self, mask: np.ndarray | None = None) -> None:
        """Forget the past of all robots, or of those where mask [N] is true."""
        chosen = np.ones(len(self.state), bool) if mask is None else mask
        # In a new array: the old one may be in other hands.
        self.state = np.where(chosen[:, None], 0.0, self.state).astype(self.state.dtype)

    def __call__(self, observation: np.ndarray) -> np.ndarray:
        """Actions [N, A] for the observations [N, O] of all robots.

        Raises:
            AlulaError: observations of another number of robots.
        """
        if len(observation) != len(self.state):
            raise AlulaError(
                f"observations of {len(observation)} robots; allowed: {len(self.state)}"
            )
        action, self.state = self._step(observation, self.state)
        return action
