"""What an identification found, as lines for the terminal."""

from typing import Any


def arm_text(data: dict[str, Any]) -> str:
    """Each joint's estimates with their intervals, and what could not be seen."""
    left_out = ", ".join(f"{n} {why.replace('_', ' ')}" for why, n in data["dropped"].items() if n)
    lines = [
        f"{data['log']['path']}, {data['from_s']:.2f} to {data['to_s']:.2f} s, {data['robot']}"
        + (f"; rows left out: {left_out}" if left_out else "")
    ]
    for joint in data["joints"]:
        lines.append(f"  {joint['joint']} ({joint['explained']})")
        for name, (low, high) in joint["intervals"].items():
            if joint[name] is not None:
                lines.append(f"    {name:14}{joint[name]:<11.4g} 95 %: {low:.4g} to {high:.4g}")
        if joint["r2"] is not None:
            lines.append(
                f"    R2 {joint['r2']:.4f}; residual {joint['residual_rms']:.3g} {joint['unit']} rms of "
                f"{joint['effort_rms']:.3g}, on unseen halves {joint['held_out_rms']:.3g}, without friction "
                f"{joint['residual_rms_without_friction']:.3g}"
            )
    lines += [f"  not observable: {reason}" for reason in data["unobservable"]]
    lines += [f"robot file  {data['robot_file']}"] if data["robot_file"] else ["no robot file"]
    return "\n".join([*lines, f"residuals   {data['plot']}"])


def flight_text(data: dict[str, Any]) -> str:
    """Estimates with their intervals, and what could not be seen."""
    lines = [
        f"{data['log']['path']}, {data['from_s']:.2f} to {data['to_s']:.2f} s, "
        f"mass {data['mass_kg']:g} kg as given"
    ]
    values = _estimates(data)
    for name, (low, high) in data["intervals"].items():
        value = f"{values[name]:.5g}" if values.get(name) is not None else ""
        lines.append(f"  {name:30}{value:12} 95 %: {low:.5g} to {high:.5g}")
    lines += [f"  R2 of {name:28}{value:.4f}" for name, value in data["r2"].items()]
    lines += [f"  not observable: {reason}" for reason in data["unobservable"]]
    lines += [f"robot file  {data['robot_file']}"] if data["robot_file"] else ["no robot file"]
    return "\n".join([*lines, f"residuals   {data['plot']}"])


def _estimates(data: dict[str, Any]) -> dict[str, float | None]:
    """The estimates under the names that their intervals have."""
    values = {f"noise.{key}": noise["std"] for key, noise in data["noise"].items()}
    for curve, name in (("thrust_curve_n", "thrust"), ("thrust_curve_up_down_n", "thrust_up_down")):
        values |= {f"{name}_c{k}_n": c for k, c in enumerate(data[curve] or ())}
    for vector, name in (("inertia_kg_m2", "inertia_{}_kg_m2"), ("drag_n_s_m", "drag_{}_n_s_m")):
        values |= {name.format(a): v for a, v in zip("xyz", data[vector], strict=True)}
    return values | {k: v for k, v in data.items() if isinstance(v, float)}
