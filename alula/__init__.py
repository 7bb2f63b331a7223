"""Alula: train control policies in simulation and put them on real quadrotors and arms."""

__version__ = "0.1.0"
