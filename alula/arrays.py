"""Formulas for arrays of NumPy and for tensors alike, in the names of the array API standard (data-apis.org/array-api)."""

from types import ModuleType
from typing import Any

import numpy as np


def namespace(x: Any) -> ModuleType:
    """The functions that serve `x`: NumPy's, unless it is a tensor, which has those of its own library on its own device."""
    if isinstance(x, np.ndarray | np.generic | list | tuple | float | int):
        return np
    # Robots have no tensors, and need not load it.
    from array_api_compat import array_namespace

    return array_namespace(x)
