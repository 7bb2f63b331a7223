"""Simulators: physics, sensors, randomisation behind one protocol."""
