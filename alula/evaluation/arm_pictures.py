"""Pictures of an arm's episodes, drawn by MuJoCo off screen in a process of its own.

OpenGL's back end is chosen before MuJoCo is imported, and one that does not work may end the whole process: each is
therefore tried in a process of its own (`python -m alula.evaluation.arm_pictures FOLDER`).
"""

# mujoco loads its names from a compiled module that the type checker cannot read.
# pyright: reportAttributeAccessIssue=false

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import mujoco
import numpy as np

BACKENDS = ("egl", "osmesa", "glfw")
"""OpenGL without a screen, in hardware or software, then with one; MUJOCO_GL names the only one to try."""
FRAMES = 8
"""Pictures of an episode."""
COLUMNS = 4
"""Of them in a row."""
SIZE = (280, 210)
"""Width and height of one [px]."""
LIMIT_S = 120
"""Longest time that drawing may take [s]."""
GOAL_RADIUS = 0.02
"""Of the ball that marks the goal [m]."""


def with_sky(spec: mujoco.MjSpec) -> None:
    """An edit of a model that is to be drawn: light from everywhere, and a bright background."""
    spec.visual.headlight.ambient = [0.35, 0.35, 0.35]
    spec.add_texture(
        name="sky", type=mujoco.mjtTexture.mjTEXTURE_SKYBOX, builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
        rgb1=[0.93, 0.94, 0.96], rgb2=[0.75, 0.79, 0.84], width=64, height=384,
    )  # fmt: skip


def frames_of(steps: int) -> np.ndarray:
    """Rows of a course of `steps` + 1 rows that are drawn, first and last included (F,)."""
    return np.unique(np.linspace(0, steps, FRAMES).round().astype(int))


def strips(
    model: mujoco.MjModel, courses: Sequence[np.ndarray], goals: Sequence[np.ndarray | None]
) -> tuple[list[bytes], str]:
    """One PNG of FRAMES pictures for each episode, or the reason why there is none.

    Args:
        model: what moves.
        courses: generalised positions of each episode (T + 1, nq).
        goals: position of the goal in the world of each [m] (3,); None where there is none.

    Returns:
        The PNG files and "", or no files and the reason in one line.
    """
    wanted = os.environ.get("MUJOCO_GL", "").lower()
    reasons = []
    with tempfile.TemporaryDirectory(prefix="alula-pictures-") as name:
        folder = Path(name)
        mujoco.mj_saveModel(model, str(folder / "model.mjb"))
        nowhere = np.full(3, np.nan)
        arrays = {
            f"{kind}_{k}": value
            for k, (course, goal) in enumerate(zip(courses, goals, strict=True))
            for kind, value in (
                ("course", course[frames_of(len(course) - 1)]),
                ("goal", nowhere if goal is None else goal),
            )
        }
        np.savez(folder / "courses.npz", allow_pickle=False, **arrays)
        for backend in (wanted,) if wanted else BACKENDS:
            try:
                reason = _drawn_apart(folder, backend)
            except KeyboardInterrupt:
                # What the pictures are for has been finished, and is not to be lost for their sake.
                return [], "interrupted"
            if reason is None:
                return [(folder / f"{k}.png").read_bytes() for k in range(len(courses))], ""
            reasons.append(f"{backend}: {reason}")
    return [], "; ".join(reasons)


def _drawn_apart(folder: Path, backend: str) -> str | None:
    """Draw in another process; the reason why it did not work, or None."""
    environment = os.environ | {"MUJOCO_GL": backend}
    environment.pop("PYOPENGL_PLATFORM", None)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "alula.evaluation.arm_pictures", str(folder)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as e:
        return " ".join(str(e).split())[:200]
    if done.returncode == 0:
        return None
    last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
    return f"{last.strip()[:200]} (exit code {done.returncode})"


def draw(folder: Path) -> None:
    """Write K.png for each course_K of the folder."""
    from matplotlib.image import imsave

    model = mujoco.MjModel.from_binary_path(str(folder / "model.mjb"))
    data = mujoco.MjData(model)
    with np.load(folder / "courses.npz", allow_pickle=False) as table:
        for k in range(len(table.files) // 2):
            course, goal = table[f"course_{k}"], table[f"goal_{k}"]
            with mujoco.Renderer(model, SIZE[1], SIZE[0]) as renderer:
                camera = _camera(model, data, course, goal)
                pictures = [_picture(renderer, camera, model, data, q, goal) for q in course]
            # A white line between them.
            for picture in pictures:
                picture[:2], picture[:, :2] = 255, 255
            blank = np.full_like(pictures[0], 255)
            pictures += [blank] * (-len(pictures) % COLUMNS)
            rows = [
                np.concatenate(pictures[i : i + COLUMNS], axis=1)
                for i in range(0, len(pictures), COLUMNS)
            ]
            imsave(folder / f"{k}.png", np.concatenate(rows, axis=0))


def _camera(
    model: mujoco.MjModel, data: mujoco.MjData, course: np.ndarray, goal: np.ndarray
) -> mujoco.MjvCamera:
    """From the front, above, at an angle; far enough to see all bodies in all pictures."""
    points = [] if np.isnan(goal).any() else [goal]
    for q in course:
        data.qpos[:] = q
        mujoco.mj_kinematics(model, data)
        # The world itself is a body, too, and stands at the base.
        points += list(data.xpos.copy())
    low, high = np.min(points, axis=0), np.max(points, axis=0)
    camera = mujoco.MjvCamera()
    camera.type = mujoco.mjtCamera.mjCAMERA_FREE
    camera.lookat[:] = (low + high) / 2.0
    # A field of view of 45 degrees sees 0.83 of the distance; the diagonal is more than what is seen of it.
    camera.distance = 0.4 + 1.05 * float(np.linalg.norm(high - low))
    camera.azimuth, camera.elevation = 140.0, -20.0
    return camera


def _picture(
    renderer: mujoco.Renderer,
    camera: mujoco.MjvCamera,
    model: mujoco.MjModel,
    data: mujoco.MjData,
    q: np.ndarray,
    goal: np.ndarray,
) -> np.ndarray:
    """One picture (height, width, 3), uint8."""
    data.qpos[:] = q
    mujoco.mj_forward(model, data)
    renderer.update_scene(data, camera)
    scene = renderer.scene
    if not np.isnan(goal).any() and scene.ngeom < scene.maxgeom:
        mujoco.mjv_initGeom(
            scene.geoms[scene.ngeom],
            mujoco.mjtGeom.mjGEOM_SPHERE,
            np.full(3, GOAL_RADIUS),
            goal,
            np.eye(3).ravel(),
            np.array([0.1, 0.8, 0.3, 0.8], np.float32),
        )
        scene.ngeom += 1
    return renderer.render().copy()


if __name__ == "__main__":
    draw(Path(sys.argv[1]))
