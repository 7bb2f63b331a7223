"""What a flying robot measures, before noise and delay."""

from dataclasses import dataclass

from alula.sim.multirotor.equations import Rows, Scalar, State, rotation

SENSED_SIZE = 18


@dataclass(kw_only=True)
class Sensed:
    """One sample of the state estimate; 18 rows in the order of the fields."""

    position_w: Rows
    """Position [m] (3)."""
    rot_wb: Rows
    """Rotation matrix body -> world, row-major (9)."""
    velocity_w: Rows
    """Velocity [m/s] (3)."""
    angular_velocity_b: Rows
    """Body rate [rad/s] (3)."""

    @staticmethod
    def from_rows(rows: Rows) -> "Sensed":
        """The sample whose flat order is `rows`."""
        return Sensed(
            position_w=rows[0:3],
            rot_wb=rows[3:12],
            velocity_w=rows[12:15],
            angular_velocity_b=rows[15:18],
        )


def sense(state: State) -> list[Scalar]:
    """The 18 rows of `Sensed` for a true state."""
    return [
        *state.position_w,
        *rotation(state.quat_wb),
        *state.velocity_w,
        *state.angular_velocity_b,
    ]


def noise_rows(
    position: float, orientation: float, velocity: float, angular_velocity: float
) -> list[float]:
    """Standard deviation of each of the 18 rows, from those of the four groups."""
    return [position] * 3 + [orientation] * 9 + [velocity] * 3 + [angular_velocity] * 3
