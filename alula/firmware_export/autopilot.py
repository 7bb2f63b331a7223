"""What every autopilot can give a multirotor's policy and take from it; a contract that asks for more is refused."""

from alula.errors import AlulaError
from alula.policies.contract import Contract

SUPPLIED = {
    "position_w": ("m", "w", 3),
    "position_error_w": ("m", "w", 3),
    "rot_wb": ("-", "wb", 9),
    "velocity_w": ("m/s", "w", 3),
    "velocity_error_w": ("m/s", "w", 3),
    "angular_velocity_b": ("rad/s", "b", 3),
    "reference_preview_w": ("m", "w", 12),
}
"""Unit, frame and size of what can be supplied; the preview is at 0.1, 0.2, 0.4 and 0.6 s."""


def check_contract(contract: Contract, autopilot: str, loop_dt: float) -> None:
    """Raise unless every observation can be supplied and every action is a throttle.

    Args:
        contract: the contract.
        autopilot: what error messages call it.
        loop_dt: period of its control loop [s]; a policy cannot step more often.

    Raises:
        AlulaError: an observation, an action or the rate does not fit.
    """
    for e in contract.supplied:
        if SUPPLIED.get(e.name) != (e.unit, e.frame, e.size):
            allowed = ", ".join(f"{n} {s}x[{u}, {f}]" for n, (u, f, s) in SUPPLIED.items())
            raise AlulaError(
                f"{autopilot} cannot supply {e.name!r} {e.size}x[{e.unit}, {e.frame}]; "
                f"allowed: {allowed}"
            )
    for a in contract.action:
        if a.meaning != "throttle" or a.unit != "-" or not 0.0 <= a.low < a.high <= 1.0:
            raise AlulaError(
                f"action {a.name} is {a.meaning} {a.low:g} to {a.high:g} [{a.unit}]; "
                f"allowed on {autopilot}: throttle within 0 to 1 [-]"
            )
    if contract.control_dt < loop_dt:
        raise AlulaError(
            f"control_dt is {contract.control_dt:g} s; allowed on {autopilot}: >= {loop_dt:g} s"
        )
