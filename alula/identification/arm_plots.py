"""Measured against predicted effort, and friction over speed, joint by joint, on one page."""

from pathlib import Path

import numpy as np

from alula.errors import AlulaError
from alula.identification.arm_result import ArmIdentification, JointResult

_SPAN_S = 8.0
"""Length of the stretch shown over time [s]."""
_BLUE, _ORANGE, _GREY = "#1f5fa8", "#d9722e", "#6b6b6b"


def plot_arm(found: ArmIdentification, out_png_path: str | Path) -> Path:
    """Draw each joint's effort and friction.

    Raises:
        AlulaError: the file cannot be written.
    """
    import matplotlib

    matplotlib.use("Agg", force=False)
    from matplotlib.figure import Figure

    rows = len(found.joints)
    figure = Figure(figsize=(13.0, 0.8 + 2.4 * rows), layout="constrained", dpi=100)
    panels = figure.subplots(rows, 2, width_ratios=(2.0, 1.0), squeeze=False)
    for (left, right), joint in zip(panels, found.joints, strict=True):
        if f"{joint.joint}.measured" in found.series:
            _effort_panel(left, joint, found.series)
            _friction_panel(right, joint, found.series)
            continue
        right.set_axis_off()
        left.set_axis_off()
        left.set_title(joint.joint, loc="left", fontsize=10)
        reason = "; ".join(joint.reasons.values())
        left.text(0.0, 0.5, f"not observable: {reason}", color=_GREY, transform=left.transAxes)
    figure.suptitle(
        f"{Path(found.log['path']).name}, {found.from_s:.1f} to {found.to_s:.1f} s, {found.robot.name}",
        fontweight="bold",
    )
    try:
        figure.savefig(str(out_png_path), format="png")
    except OSError as e:
        raise AlulaError(f"plot {out_png_path}: cannot be written: {e.strerror}") from None
    return Path(out_png_path)


def _effort_panel(axes, joint: JointResult, series: dict[str, np.ndarray]) -> None:
    time, measured, predicted = (
        series[f"{joint.joint}.{key}"] for key in ("time_s", "measured", "predicted")
    )
    middle = 0.5 * (time[0] + time[-1])
    shown = np.abs(time - middle) <= 0.5 * _SPAN_S
    gap = np.where(np.diff(time, prepend=time[0]) > 0.5, np.nan, 1.0)
    axes.plot(time[shown], (gap * measured)[shown], color=_BLUE, lw=0.9, label="measured")
    axes.plot(time[shown], (gap * predicted)[shown], color=_ORANGE, lw=1.2, label="model")
    axes.set_title(
        f"{joint.joint}: residual {joint.residual_rms:.3g} {joint.unit} rms, "
        f"on unseen halves {joint.held_out_rms:.3g}, without friction {joint.residual_rms_without_friction:.3g}",
        loc="left",
        fontsize=9,
    )
    axes.set_xlabel("time [s]")
    axes.set_ylabel(f"{'current' if joint.unit == 'A' else 'torque'} [{joint.unit}]")
    axes.margins(x=0.0)
    axes.legend(loc="upper right", ncols=2, fontsize=8, frameon=False)
    _plain(axes)


def _friction_panel(axes, joint: JointResult, series: dict[str, np.ndarray]) -> None:
    speed, friction = series[f"{joint.joint}.speed"], series[f"{joint.joint}.friction"]
    coulomb, viscous, offset = series[f"{joint.joint}.coulomb_viscous_offset"]
    axes.plot(speed, friction, ".", ms=1.5, color=_BLUE, alpha=0.4)
    v = np.linspace(speed.min(), speed.max(), 400)
    axes.plot(
        v, coulomb * np.tanh(v / joint.smoothing) + viscous * v + offset, color=_ORANGE, lw=1.5
    )
    axes.axhline(0.0, color=_GREY, lw=0.6)
    axes.set_title(
        f"{coulomb:.3g} sign(qd) {viscous:+.3g} qd {offset:+.2g}", loc="left", fontsize=9
    )
    axes.set_xlabel("speed [rad/s or m/s]")
    axes.set_ylabel(f"friction [{joint.unit}]")
    _plain(axes)


def _plain(axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, lw=0.6)
    axes.tick_params(labelsize=8)
