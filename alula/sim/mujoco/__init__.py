"""MuJoCo scenes behind the simulator protocol."""
