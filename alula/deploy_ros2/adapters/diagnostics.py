"""The node's diagnostic message: state, reasons and counters."""

from collections.abc import Sequence

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from alula.deploy_ros2.pilot import Output
from alula.deploy_ros2.safety import Reason, State


def summary(active: bool, output: Output | None, reasons: Sequence[Reason], rivals: int) -> str:
    """State and codes of the checks that applied, without numbers, so that it changes only when they do."""
    if not active or output is None:
        return "not active"
    codes = [reason.code for reason in reasons]
    if rivals:
        codes.append("second_commander")
    state = output.decision.state.name.lower()
    return f"{state}: {', '.join(codes)}" if codes else state


def diagnostic_message(
    *,
    stamp: Time,
    name: str,
    hardware: str,
    text: str,
    output: Output | None,
    reasons: Sequence[Reason],
    rivals: int,
    numbers: dict[str, float],
) -> DiagnosticArray:
    """One status: OK while the policy flies unhindered, WARN with a warning, ERROR in any other state or with rivals.

    `reasons` are the checks that applied at any cycle since the last message, most severe first.
    """
    level, values = DiagnosticStatus.OK, {}
    if output is not None:
        decision = output.decision
        if decision.state is not State.POLICY or rivals:
            level = DiagnosticStatus.ERROR
        elif reasons:
            level = DiagnosticStatus.WARN
        values = {f"reason {r.code}": r.text for r in reasons}
        values |= {f"count {code}": str(n) for code, n in decision.counts.items() if n}
    values |= {key: str(value) for key, value in numbers.items()}
    values["other_publishers"] = str(rivals)
    status = DiagnosticStatus(
        level=level,
        name=name,
        message=text,
        hardware_id=hardware,
        values=[KeyValue(key=key, value=value) for key, value in values.items()],
    )
    message = DiagnosticArray(status=[status])
    message.header.stamp = stamp
    return message
