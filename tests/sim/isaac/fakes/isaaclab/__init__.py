"""A fake of Isaac Lab: of its classes what the adapter uses, as version 2 or 3 by the variable FAKE_ISAAC_LAB."""

import os
import types

THREE = os.environ.get("FAKE_ISAAC_LAB", "3") == "3"


class Cfg(types.SimpleNamespace):
    """A configuration that keeps what it is given."""
