"""A float64 torch tensor that runs through the package's scalar functions, for exact reference gradients."""

from typing import Any

import numpy as np
import torch

UFUNCS = {
    np.add: torch.add,
    np.subtract: torch.subtract,
    np.multiply: torch.multiply,
    np.divide: torch.divide,
    np.maximum: torch.maximum,
    np.minimum: torch.minimum,
    np.sqrt: torch.sqrt,
    np.sin: torch.sin,
}


class TorchScalar:
    """Forwards + - * / (with arrays too) and the four NumPy functions of the equations to torch."""

    def __init__(self, value: Any) -> None:
        self.value = torch.as_tensor(value, dtype=torch.float64)

    def __add__(self, other: Any) -> "TorchScalar":
        return TorchScalar(self.value + _tensor(other))

    def __sub__(self, other: Any) -> "TorchScalar":
        return TorchScalar(self.value - _tensor(other))

    def __mul__(self, other: Any) -> "TorchScalar":
        return TorchScalar(self.value * _tensor(other))

    def __truediv__(self, other: Any) -> "TorchScalar":
        return TorchScalar(self.value / _tensor(other))

    def __rsub__(self, other: Any) -> "TorchScalar":
        return TorchScalar(_tensor(other) - self.value)

    def __rtruediv__(self, other: Any) -> "TorchScalar":
        return TorchScalar(_tensor(other) / self.value)

    def __neg__(self) -> "TorchScalar":
        return TorchScalar(-self.value)

    __radd__ = __add__
    __rmul__ = __mul__

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *args: Any) -> "TorchScalar":
        assert method == "__call__"
        return TorchScalar(UFUNCS[ufunc](*(_tensor(a) for a in args)))


def _tensor(x: Any) -> torch.Tensor:
    return x.value if isinstance(x, TorchScalar) else torch.as_tensor(x, dtype=torch.float64)


def scalars(rows: Any) -> list[TorchScalar]:
    """One `TorchScalar` for each row of an array or tensor."""
    return [TorchScalar(row) for row in rows]


def tensor(rows: Any) -> torch.Tensor:
    """Rows of scalars (or numbers) as one tensor [rows, ...]."""
    return torch.stack(torch.broadcast_tensors(*(_tensor(r) for r in rows)))
