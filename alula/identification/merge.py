"""One robot from several flights: each quantity from the flight that shows it."""

from dataclasses import replace
from pathlib import Path

from alula.errors import AlulaError
from alula.identification.result import Identification

_INERTIA = ("inertia_x_kg_m2", "inertia_y_kg_m2")


def with_inertia(thrust: Identification, inertia: Identification, *, name: str) -> Identification:
    """The robot of one identification with the inertia that another flight showed.

    Args:
        thrust: gives the robot, its thrust curve, lags and noise.
        inertia: must have observed roll and pitch inertia, at the same mass.
        name: of the combined robot.

    Raises:
        AlulaError: no robot, no inertia, or different masses.
    """
    if thrust.robot is None or inertia.robot is None:
        raise AlulaError("with_inertia: both identifications must have a robot")
    if any(value is None for value in inertia.inertia_kg_m2[:2]):
        raise AlulaError(
            f"with_inertia: {inertia.log['path']} does not show roll and pitch inertia"
        )
    if abs(thrust.mass_kg - inertia.mass_kg) > 1e-9:
        raise AlulaError(
            f"with_inertia: masses {thrust.mass_kg} and {inertia.mass_kg} kg; allowed: the same"
        )
    sources = dict(thrust.robot.sources) | {
        key: inertia.robot.sources[key] for key in ("inertia", "torque_per_thrust")
    }
    robot = replace(
        thrust.robot,
        name=name,
        inertia=inertia.robot.inertia,
        torque_per_thrust=inertia.robot.torque_per_thrust,
        sources=sources,
    )
    return replace(thrust, robot=robot, **_merged(thrust, inertia))


def _merged(thrust: Identification, inertia: Identification) -> dict:
    """The fields of an Identification that the second flight changes."""
    kept = [r for r in thrust.unobservable if r.split(":")[0] not in _INERTIA]
    about = ("torque_", "angular_acceleration_", "inertia_")
    return {
        "inertia_kg_m2": inertia.inertia_kg_m2,
        "intervals": thrust.intervals | {key: inertia.intervals[key] for key in _INERTIA},
        "r2": thrust.r2 | {k: v for k, v in inertia.r2.items() if k.startswith("inertia_")},
        "unobservable": kept,
        "extras": thrust.extras
        | {
            "inertia_log": {k: v for k, v in inertia.log.items() if k != "path"}
            | {"file": Path(inertia.log["path"]).name},
            "inertia_window_s": [inertia.from_s, inertia.to_s],
        },
        "series": thrust.series | {k: v for k, v in inertia.series.items() if k.startswith(about)},
    }
