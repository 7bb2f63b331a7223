"""Residual plots of an identification, on one page."""

from pathlib import Path

import numpy as np

from alula.errors import AlulaError
from alula.identification.result import Identification

_SPAN_S = 6.0
"""Length of the stretch shown in the time plots [s]."""
_BLUE, _ORANGE, _GREY = "#1f5fa8", "#d9722e", "#6b6b6b"


def plot_identification(identification: Identification, out_png_path: str | Path) -> Path:
    """Draw measured against fitted thrust, residuals, thrust curve and inertia regressions.

    Panels without data say what was not observable instead.

    Raises:
        AlulaError: the file cannot be written.
    """
    import matplotlib

    matplotlib.use("Agg", force=False)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13.0, 10.0), layout="constrained", dpi=110)
    grid = figure.add_gridspec(3, 4, height_ratios=(1.0, 0.8, 1.15))
    _time_panel(figure.add_subplot(grid[0, :]), identification)
    _residual_panel(figure.add_subplot(grid[1, :3]), identification)
    _histogram_panel(figure.add_subplot(grid[1, 3]), identification)
    _curve_panel(figure.add_subplot(grid[2, :2]), identification)
    _inertia_panel(figure.add_subplot(grid[2, 2]), identification, "x", "roll")
    _inertia_panel(figure.add_subplot(grid[2, 3]), identification, "y", "pitch")
    log = identification.log
    figure.suptitle(
        f"{Path(log['path']).name}, {identification.from_s:.1f} to {identification.to_s:.1f} s, "
        f"mass {1000.0 * identification.mass_kg:.4g} g",
        fontweight="bold",
    )
    try:
        figure.savefig(str(out_png_path), format="png")
    except OSError as e:
        raise AlulaError(f"plot {out_png_path}: cannot be written: {e.strerror}") from None
    return Path(out_png_path)


def _absent(axes, identification: Identification, quantity: str, title: str) -> None:
    """Write into an empty panel why it is empty."""
    import textwrap

    reason = next(
        (r.split(": ", 1)[1] for r in identification.unobservable if r.startswith(quantity)),
        "no series in this identification",
    )
    axes.set_axis_off()
    axes.set_title(title, loc="left", fontsize=10)
    axes.text(
        0.5,
        0.5,
        "not observable\n" + "\n".join(textwrap.wrap(reason, 34)),
        ha="center",
        va="center",
        color=_GREY,
        fontsize=9,
        transform=axes.transAxes,
    )


def _force(identification: Identification) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    s = identification.series
    if "measured_force_n" not in s:
        return None
    gap = np.where(s["valid"], 1.0, np.nan)
    return s["time_s"], s["measured_force_n"] * gap, s["fitted_force_n"] * gap


def _time_panel(axes, identification: Identification) -> None:
    title = "Total thrust: measured and model"
    force = _force(identification)
    if force is None:
        _absent(axes, identification, "thrust_curve_n", title)
        return
    time, measured, fitted = force
    lively = _liveliest(time, measured)
    label = "mass x specific force"
    if "rotor_speed_model" in identification.extras:
        label = "thrust from rotor speeds"
    axes.plot(time[lively], measured[lively], color=_BLUE, lw=0.9, label=label)
    axes.plot(time[lively], fitted[lively], color=_ORANGE, lw=1.4, label="lagged thrust curve")
    r2 = identification.r2.get("thrust_up_down", identification.r2.get("thrust", float("nan")))
    axes.set_title(
        f"{title} (liveliest {_SPAN_S:g} s; R² {r2:.3f} overall)", loc="left", fontsize=10
    )
    axes.set_xlabel("time [s]")
    axes.set_ylabel("force [N]")
    axes.margins(x=0.0, y=0.15)
    axes.legend(loc="upper right", ncols=2, fontsize=8, frameon=False)
    _plain(axes)


def _liveliest(time: np.ndarray, values: np.ndarray) -> slice:
    """The stretch of _SPAN_S in which the values vary most."""
    n = max(int(_SPAN_S / max(float(np.median(np.diff(time))), 1e-6)), 2)
    if n >= time.size:
        return slice(0, time.size)
    filled = np.nan_to_num(values, nan=float(np.nanmean(values)))
    starts = np.arange(0, time.size - n, max(n // 4, 1))
    best = int(starts[int(np.argmax([filled[a : a + n].std() for a in starts]))])
    return slice(best, best + n)


def _residual_panel(axes, identification: Identification) -> None:
    force = _force(identification)
    title = "Residual over the whole window"
    if force is None:
        _absent(axes, identification, "thrust_curve_n", title)
        return
    time, measured, fitted = force
    residual = 1000.0 * (measured - fitted)
    axes.plot(time, residual, color=_BLUE, lw=0.5)
    axes.axhline(0.0, color=_GREY, lw=0.8)
    second = max(int(1.0 / max(float(np.median(np.diff(time))), 1e-6)), 1)
    smooth = np.convolve(np.nan_to_num(residual), np.ones(second) / second, mode="same")
    axes.plot(time, smooth, color=_ORANGE, lw=1.4, label="1 s mean (slow drift: battery, airflow)")
    axes.set_title(title, loc="left", fontsize=10)
    axes.set_xlabel("time [s]")
    axes.set_ylabel("residual [mN]")
    axes.margins(x=0.0, y=0.12)
    axes.legend(loc="upper right", fontsize=8, frameon=False)
    _plain(axes)


def _histogram_panel(axes, identification: Identification) -> None:
    force = _force(identification)
    if force is None:
        _absent(axes, identification, "thrust_curve_n", "Residual, distribution")
        return
    residual = 1000.0 * (force[1] - force[2])
    residual = residual[np.isfinite(residual)]
    limit = float(np.percentile(np.abs(residual), 99.5))
    bins = np.linspace(-limit, limit, 60)
    axes.hist(residual, bins=bins.tolist(), density=True, color=_BLUE, alpha=0.55)
    sigma = float(residual.std())
    bell = np.exp(-0.5 * (bins / sigma) ** 2) / (sigma * np.sqrt(2.0 * np.pi))
    axes.plot(bins, bell, color=_ORANGE, lw=1.4)
    axes.set_title(f"Distribution; line: normal, {sigma:.1f} mN", loc="left", fontsize=10)
    axes.set_xlabel("residual [mN]")
    axes.set_yticks([])
    _plain(axes)


def _curve_panel(axes, identification: Identification) -> None:
    s = identification.series
    title = "Thrust curve of one rotor"
    if "curve_n" not in s:
        _absent(axes, identification, "thrust_curve_n", title)
        return
    u = np.linspace(0.0, 1.0, 201)
    powers = np.stack([np.ones_like(u), u, u * u])
    thrust = s["curve_n"] @ powers
    half = 1.96 * np.std(s["curve_deviations_n"] @ powers, axis=0)
    flown = np.percentile(s["rotor_speed"][s["valid"]], (1.0, 99.0))
    axes.axvspan(flown[0], flown[1], color="#eef2f7", label="flown (98 % of the time)")
    axes.fill_between(u, thrust - half, thrust + half, color=_ORANGE, alpha=0.3, label="95 % band")
    axes.plot(u, thrust, color=_ORANGE, lw=1.8, label="fit")
    if identification.robot is not None:
        hover = identification.mass_kg * 9.81 / identification.robot.n_rotors
        axes.axhline(hover, color=_GREY, lw=0.9, ls="--", label="hover")
    c = identification.thrust_curve_up_down_n or identification.thrust_curve_n
    if c is not None:
        axes.set_title(
            f"{title}: {c[0]:.4f} {c[1]:+.4f} s {c[2]:+.4f} s² N", loc="left", fontsize=10
        )
    axes.set_xlabel("rotor speed s (lagged throttle) [-]")
    axes.set_ylabel("thrust [N]")
    axes.set_xlim(0.0, 1.0)
    axes.set_ylim(bottom=min(0.0, float((thrust - half).min())))
    axes.legend(loc="upper left", fontsize=8, frameon=False)
    _plain(axes)


def _inertia_panel(axes, identification: Identification, axis: str, word: str) -> None:
    s = identification.series
    title = f"I{axis}{axis} ({word})"
    if f"torque_{axis}" not in s:
        _absent(axes, identification, f"inertia_{axis}", title)
        return
    torque, acceleration = 1e6 * s[f"torque_{axis}"], s[f"angular_acceleration_{axis}"]
    step = max(torque.size // 4000, 1)
    axes.plot(acceleration[::step], torque[::step], ".", ms=1.5, color=_BLUE, alpha=0.35)
    reach = np.percentile(np.abs(acceleration), 99.8) * np.array([-1.0, 1.0])
    r2 = identification.r2.get(f"inertia_{axis}", float("nan"))
    if f"inertia_{axis}" in s:
        value, low, high = s[f"inertia_{axis}"]
        axes.fill_between(
            reach, 1e6 * low * reach, 1e6 * high * reach, color=_ORANGE, alpha=0.35, lw=0.0
        )
        axes.plot(reach, 1e6 * value * reach, color=_ORANGE, lw=1.6)
        axes.set_title(
            f"{title} = {1e6 * value:.3g}e-6 kg m², R² {r2:.2f}", loc="left", fontsize=10
        )
    else:
        axes.set_title(f"{title}: not observable, R² {r2:.2f}", loc="left", fontsize=10)
    axes.set_xlim(*(1.05 * reach))
    limit = 1.3 * float(np.percentile(np.abs(torque), 99.8))
    axes.set_ylim(-limit, limit)
    axes.set_xlabel("angular acceleration [rad/s²]")
    axes.set_ylabel("rotor torque [µN m]")
    _plain(axes)


def _plain(axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, lw=0.6)
    axes.tick_params(labelsize=8)
