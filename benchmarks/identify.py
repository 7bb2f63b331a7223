"""Identification on the real flight logs: the table in docs, and the shipped crazyflie robot.

    python benchmarks/identify.py DATA [--write]

DATA is the folder of flight logs ($ALULA_DATA in the tests). Prints a Markdown table and saves it
as benchmarks/identify.md; with --write it also writes alula/robots/crazyflie.toml from log10
(thrust, lag, noise) and log15 (inertia).
"""

import argparse
import time
from pathlib import Path

import numpy as np

from alula.identification.bases import crazyflie_brushless
from alula.identification.identify import identify
from alula.identification.logs import read_log
from alula.identification.merge import with_inertia
from alula.identification.motion import body_acceleration
from alula.identification.openloop import QUANTITIES, evaluate
from alula.identification.result import Identification
from alula.identification.robot_file import write_robot
from alula.identification.speed_based import fit_speed_model, prepare, without_spikes
from alula.robots.multirotor import ROBOT_DIR

HERE = Path(__file__).parent
BRUSHLESS = {"square": (49.5, 67.3), "multisine": (2.0, 61.5)}


def row(found: Identification, label: str, key: str, value: float | None, published: str) -> str:
    """One line of the table: estimate, interval, published figure."""
    if value is None:
        return f"| {label} | not observable | | {published} |"
    lo, hi = found.intervals[key]
    return f"| {label} | {value:.4g} | {lo:.3g} to {hi:.3g} | {published} |"


def estimate(found: Identification, key: str) -> float:
    """An estimate by its interval's key."""
    x, y, _ = found.inertia_kg_m2
    dx, dy, dz = found.drag_n_s_m
    model = found.extras["rotor_speed_model"]
    assert isinstance(model, dict)
    values = {
        "thrust_per_speed2": model["thrust_per_speed2"],
        "rotor_lag_s": found.rotor_lag_s,
        "rotor_lag_up_s": found.rotor_lag_up_s,
        "rotor_lag_down_s": found.rotor_lag_down_s,
        "inertia_x_kg_m2": x,
        "inertia_y_kg_m2": y,
        "drag_x_n_s_m": dx,
        "drag_y_n_s_m": dy,
        "drag_z_n_s_m": dz,
    }
    return float(values[key] or float("nan"))


def brushed(data: Path) -> tuple[list[str], Identification]:
    """log10 and log15: thrust, lag, inertia."""
    start = time.perf_counter()
    ten = identify(data / "cf2_arpl/log10.xz", mass=0.027, from_s=35, to_s=65, base="crazyflie-l2f")
    took = time.perf_counter() - start
    fifteen = identify(
        data / "cf2_arpl/log15.xz", mass=0.027, from_s=55, to_s=90, base="crazyflie-l2f"
    )
    c, a = ten.thrust_curve_n or (None,) * 3, ten.thrust_curve_up_down_n or (None,) * 3
    lines = [
        f"log10, 35 to 65 s, 27 g (R² {ten.r2['thrust']:.4f} symmetric, "
        f"{ten.r2['thrust_up_down']:.4f} with separate lags; identified in {took:.1f} s); "
        f"log15, 55 to 90 s (R² {fifteen.r2['inertia_x']:.2f} roll, {fifteen.r2['inertia_y']:.2f} pitch)",
        "",
        "| | estimate | 95 % interval | published, at 9.81 m/s² |",
        "| --- | --- | --- | --- |",
        row(ten, "c0 [N]", "thrust_c0_n", c[0], "0.0227"),
        row(ten, "c1 [N]", "thrust_c1_n", c[1], "-0.0119"),
        row(ten, "c2 [N]", "thrust_c2_n", c[2], "0.1284"),
        row(ten, "lag [s]", "rotor_lag_s", ten.rotor_lag_s, "0.0716"),
        row(ten, "lag up [s]", "rotor_lag_up_s", ten.rotor_lag_up_s, ""),
        row(ten, "lag down [s]", "rotor_lag_down_s", ten.rotor_lag_down_s, ""),
        *(
            row(ten, f"c{i}, separate lags [N]", f"thrust_up_down_c{i}_n", a[i], "")
            for i in range(3)
        ),
        row(fifteen, "Ixx [kg m²]", "inertia_x_kg_m2", fifteen.inertia_kg_m2[0], "1.0993e-5"),
        row(fifteen, "Iyy [kg m²]", "inertia_y_kg_m2", fifteen.inertia_kg_m2[1], "1.1815e-5"),
    ]
    return lines, with_inertia(ten, fifteen, name="crazyflie")


def effectiveness(data: Path) -> list[str]:
    """data_1901: control effectiveness."""
    found = identify(data / "cf2_indi_1901/data_1901.csv.xz", mass=0.03)
    published = {"g1_p": "0.0066146", "g1_q": "0.0052125", "g1_r": "-0.001497", "g2_r": "4.3475e-5"}
    fit = found.extras["effectiveness"]
    assert isinstance(fit, dict)
    lines = [
        "data_1901, (rad/s²) per PWM unit",
        "",
        "| | estimate | 95 % interval | published | by time stamps |",
        "| --- | --- | --- | --- | --- |",
    ]
    for key, value in fit["values"].items():
        lo, hi = found.intervals[f"effectiveness.{key}"]
        lines.append(
            f"| {key} | {value:.5g} | {lo:.3g} to {hi:.3g} | {published[key]} "
            f"| {fit['resampled'][key]:.5g} |"
        )
    return lines


def brushless(data: Path) -> list[str]:
    """Square and multisine: parameters, and each predicted by the other's model."""
    lines = [
        "Brushless flights, 45 g",
        "",
        "| | square | multisine | published |",
        "| --- | --- | --- | --- |",
    ]
    paths = {n: data / f"cf21bl_nanodrone/{n}_20251017_run1.raw.parquet" for n in BRUSHLESS}
    found = {
        n: identify(paths[n], mass=0.045, from_s=w[0], to_s=w[1]) for n, w in BRUSHLESS.items()
    }
    published = {
        "thrust_per_speed2": "3.7178e-8",
        "rotor_lag_s": "0.050",
        "rotor_lag_up_s": "",
        "rotor_lag_down_s": "",
        "inertia_x_kg_m2": "3.3e-5 / 2.5e-5",
        "inertia_y_kg_m2": "3.6e-5 / 2.8e-5",
        "drag_x_n_s_m": "0.0215",
        "drag_y_n_s_m": "0.0215",
        "drag_z_n_s_m": "0.0236",
    }
    for key, figure in published.items():
        cells = []
        for f in found.values():
            lo, hi = f.intervals[key]
            cells.append(f"{estimate(f, key):.4g} ({lo:.4g} to {hi:.4g})")
        lines.append(f"| {key} | {cells[0]} | {cells[1]} | {figure} |")
    flights = {}
    for name, window in BRUSHLESS.items():
        log, _ = without_spikes(body_acceleration(read_log(paths[name])).window(*window))
        flights[name] = prepare(log)
    models = {
        n: fit_speed_model(flight, 0.045, crazyflie_brushless()) for n, flight in flights.items()
    }
    lines += [
        "",
        "Error after 0.5 s open loop, over that of holding the state (root mean square)",
        "",
        "| fitted on | predicts | variant | " + " | ".join(QUANTITIES) + " | zero rate | windows |",
        "| --- | --- | --- | " + "--- | " * len(QUANTITIES) + "--- | --- |",
    ]
    for fitted, predicted in (("square", "multisine"), ("multisine", "square")):
        for variant in ("plain", "trim", "trust"):
            result = evaluate(models[fitted], flights[predicted], variant=variant)
            cells = " | ".join(
                f"{result.ratio[q]:.2f} ({result.model[q]:.3g} / {result.hold[q]:.3g})"
                for q in QUANTITIES
            )
            zero = result.zero_rate_rad_s / result.hold[QUANTITIES[3]]
            lines.append(
                f"| {fitted} | {predicted} | {variant} | {cells} | {zero:.2f} | {result.windows} |"
            )
    return lines


def noise(data: Path) -> list[str]:
    """log05: sensor noise at rest."""
    found = identify(data / "cf_imu_static/log05.xz", mass=0.027)
    gyro = [np.degrees(found.noise[f"gyro_{a}_rad_s"]["std"]) for a in "xyz"]
    acc = [found.noise[f"acc_{a}_m_s2"]["std"] / 9.81e-3 for a in "xyz"]
    return [
        "log05, at rest: gyro " + ", ".join(f"{g:.3f}" for g in gyro) + " deg/s; specific force "
        "" + ", ".join(f"{a:.2f}" for a in acc) + " mg (standard deviation, x, y, z)"
    ]


def main() -> None:
    """Print and save the tables; write the robot when asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    lines, crazyflie = brushed(args.data)
    parts = [lines, effectiveness(args.data), brushless(args.data), noise(args.data)]
    text = "# Identification on real flight logs\n\n"
    text += "\n\n".join("\n".join(part) for part in parts) + "\n"
    print(text)
    (HERE / "identify.md").write_text(text, encoding="utf-8")
    if args.write:
        write_robot(
            crazyflie,
            ROBOT_DIR / "crazyflie.toml",
            overwrite=True,
            description="Crazyflie 2.x (brushed), identified by alula from two real flights",
        )


if __name__ == "__main__":
    main()
