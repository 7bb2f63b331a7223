"""A fake of Isaac Gym Preview 4: of its tensor API what the adapter uses, strict where the documentation is."""

import sys

# As the real one.
assert "torch" not in sys.modules, "PyTorch was imported before isaacgym"
__version__ = "fake"
