"""Everything stands in pyproject.toml; colcon wants this file."""

from setuptools import setup

distribution = setup()
# colcon reads the values of the distribution back as literals, and a set of version specifiers is none.
if distribution is not None:
    required = str(distribution.python_requires)
    distribution.python_requires = distribution.metadata.python_requires = required
