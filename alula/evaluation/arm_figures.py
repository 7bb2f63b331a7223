"""The charts of an arm's report, from episodes and sweeps to SVG with a caption."""

# mujoco loads its names from a compiled module that the type checker cannot read.
# pyright: reportAttributeAccessIssue=false

import math
from collections.abc import Sequence

import mujoco
import numpy as np

from alula.evaluation.arm_episodes import Episodes
from alula.evaluation.arm_evaluate import ArmEvaluation
from alula.evaluation.arm_physics import Setting, objects
from alula.evaluation.arm_study import ArmSweep
from alula.evaluation.figures import Figure, success_and
from alula.evaluation.plots import Axes, Line, chart, histograms

UNITS = {"angle": (180.0 / math.pi, "\u00b0"), "force": (1.0, "N")}
"""Factor and unit in which people read measures of tasks; all others are lengths [m], read in cm."""


def shown(measure: str) -> tuple[float, str]:
    """Factor and unit in which people read a measure."""
    return UNITS.get(measure, (100.0, "cm"))


def label(evaluation: ArmEvaluation) -> str:
    """Name of an evaluation in tables and legends."""
    physics = "as trained" if evaluation.sim == "mujoco" else "other physics"
    return physics if evaluation.nominal else f"{physics}, randomised"


def final_errors(runs: Sequence[tuple[ArmEvaluation, Episodes]], measure: str) -> Figure:
    """Histogram of what the task measures at the end, one outline an evaluation."""
    factor, unit = shown(measure)
    values = [factor * run.measures[measure][run.finished] for _, run in runs]
    return Figure(
        title=f"{measure.capitalize()} at the end",
        legend=tuple((f"s{k}", label(e)) for k, (e, _) in enumerate(runs)),
        svg=chart(
            histograms(values),
            Axes(x_label=f"{measure} at the end [{unit}]", y_label="episodes [%]"),
            f"Distribution of the {measure} at the end",
        ),
        note="Episodes that did not end early; the largest 0.5 % are not drawn.",
    )


def sweep_figures(sweep: ArmSweep) -> tuple[Figure, Figure]:
    """Success and the first measure over one varied factor; the training's range is shaded."""
    success = np.array([100.0 * m.success for m in sweep.metrics])
    band = 100.0 * np.array([m.success_interval for m in sweep.metrics]).T
    measure = next(iter(sweep.metrics[0].measures))
    factor, unit = shown(measure)
    at = [m.measures[measure] for m in sweep.metrics]
    middle = np.array([math.nan if m is None else factor * m.median for m in at])
    spread = np.array(
        [(math.nan, math.nan) if m is None else m.median_interval for m in at]
    ).T * factor  # fmt: skip
    return success_and(sweep, (success, band), (middle, spread), measure, unit)


def paths(setting: Setting, run: Episodes, episode: int, title: str) -> list[Figure]:
    """Where tool and objects went in one traced episode, from above and from the side."""
    tool, moved = positions(setting, run.qpos[:, episode])
    goal = run.goal.get("position_w")
    figures = []
    for view, axis, name in (("seen from above", 1, "y"), ("seen from the side", 2, "z")):
        courses = [("s0", tool), *(("s1", course) for course in moved.values())]
        lines = [Line(x=p[:, 0], y=p[:, axis], style=style) for style, p in courses]
        # A dot where it ends.
        lines += [Line(x=p[-1:, 0], y=p[-1:, axis], style=style, dots=True) for style, p in courses]
        if goal is not None:
            point = goal[episode]
            lines.append(Line(x=point[:1], y=point[axis : axis + 1], style="s2", dots=True))
        legend = [("s0", "tool"), *(("s1", name) for name in moved)]
        figures.append(
            Figure(
                title=f"{title}, {view}",
                legend=(*legend, *([("s2", "goal")] if goal is not None else [])),
                svg=chart(
                    lines,
                    Axes(x_label="x [m]", y_label=f"{name} [m]", height=300, equal=True),
                    f"Paths of tool and objects, x against {name}",
                ),
                note="The dots are where they end, and the goal.",
            )
        )
    return figures


def positions(setting: Setting, qpos: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Positions of the tool (T, 3) and of each object (T, 3) in the world [m] along a course (T, nq)."""
    model = setting.simulator(1).model
    data, robot, names = mujoco.MjData(model), setting.robot, objects(setting)
    tool, moved = np.empty((len(qpos), 3)), {name: np.empty((len(qpos), 3)) for name in names}
    for t, q in enumerate(qpos):
        data.qpos[:] = q
        mujoco.mj_kinematics(model, data)
        tool[t] = data.site(robot.tool).xpos
        for name in names:
            moved[name][t] = data.body(name).xpos
    return tool, moved
