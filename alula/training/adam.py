"""Adam (Kingma and Ba 2015, arXiv 1412.6980) on one flat float32 vector."""

import numpy as np


class Adam:
    """First and second moment of the gradient, with bias correction."""

    def __init__(self, size: int, betas: tuple[float, float], epsilon: float = 1e-8) -> None:
        self.betas, self.epsilon = betas, epsilon
        self.first = np.zeros(size, np.float32)
        self.second = np.zeros(size, np.float32)
        self.steps = 0

    def step(
        self, parameters: np.ndarray, gradient: np.ndarray, learning_rate: float | np.ndarray
    ) -> None:
        """Move `parameters` (in place) one step down the gradient; the rate may differ by parameter."""
        b1, b2 = self.betas
        self.steps += 1
        # m = b1 m + (1 - b1) g,  v = b2 v + (1 - b2) g^2
        self.first *= b1
        self.first += (1.0 - b1) * gradient
        self.second *= b2
        self.second += (1.0 - b2) * gradient * gradient
        # theta -= lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)
        scale = learning_rate / (1.0 - b1**self.steps)
        root = np.sqrt(self.second / (1.0 - b2**self.steps))
        parameters -= scale * self.first / (root + self.epsilon)
