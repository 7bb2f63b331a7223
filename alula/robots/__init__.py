"""Robots: every number with its unit and source, one TOML file a robot."""
