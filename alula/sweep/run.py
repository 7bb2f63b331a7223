"""One run of a sweep, in a worker process: train from wherever its folder has come to, then evaluate."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import alula
from alula.build import Robot, build_robot, is_arm_task
from alula.errors import AlulaError
from alula.evaluation.evaluate import policy_task
from alula.policies.files import read_bounded, write_files
from alula.policies.onnx_file import Policy, load_policy
from alula.presets import Preset
from alula.run_folder import POLICY, RESULT, ROBOT_FILE
from alula.training.population import LOST, Score, hand_down
from alula.training.run import CONFIG, resolved_config, train, updates_saved

REQUEST = "sweep.json"
MAX_RESULT_BYTES = 100_000_000


@dataclass(frozen=True, kw_only=True)
class SweepRun:
    """One training run, or the part of one between two changes of its settings."""

    folder: Path
    """Its own folder, below that of the sweep."""
    sweep: Path
    """The sweep's folder, which holds the request and the robot file."""
    preset: Preset
    """What to train, with the settings of this run."""
    settings: dict[str, Any]
    """Those of the settings that the sweep changes."""
    seed: int
    """Training seed."""
    until: int
    """Updates after which to stop."""
    parent: Path | None
    """Folder whose checkpoint it goes on from; None begins anew."""
    evaluation_seed: int | None
    """Evaluation seed; None: this part is not evaluated."""
    episodes: int
    """Episodes of the evaluation."""
    randomized: bool
    """Evaluate over the whole range of the training instead of the robot as its file says."""
    checkpoint_every_s: float
    """Least time between two checkpoints [s]."""
    version: str = alula.__version__
    """Version of alula that asks for the run."""


def do_run(run: SweepRun) -> None:
    """Train and evaluate; does nothing where both are done.

    Raises:
        AlulaError: this machine sees another folder or has another version of alula, or the training's own.
    """
    if run.version != alula.__version__:
        raise AlulaError(
            f"a worker has alula {alula.__version__}, the sweep {run.version}; allowed: the same on all machines"
        )
    if not (run.sweep / REQUEST).is_file():
        raise AlulaError(
            f"a worker does not see {run.sweep}; allowed: a folder that all machines share"
        )
    if (run.folder / RESULT).is_file():
        return
    robot = build_robot(run.preset, run.sweep / ROBOT_FILE)
    result = {"settings": run.settings, "seed": run.seed, "updates": run.until}
    try:
        result["train_s"] = None if is_trained(run, robot) else _train(run, robot)
    except AlulaError as e:
        # It would fail the next time, too: this is a result, and counts as no success.
        result["error"] = str(e)
    else:
        policy = load_policy(run.folder / POLICY)
        result["env_steps"] = policy.contract.training["env_steps"]
        if run.evaluation_seed is not None:
            result["evaluation"] = _evaluate(run, policy, robot)
    write_files(run.folder, {RESULT: (json.dumps(result, indent=2) + "\n").encode()})


def is_trained(run: SweepRun, robot: Robot) -> bool:
    """Whether the training itself is done: the policy is there, from these settings and after these updates."""
    try:
        config = (run.folder / CONFIG).read_text()
        training = load_policy(run.folder / POLICY).contract.training
    except (AlulaError, OSError):
        return False
    same = config == resolved_config(run.preset, robot, run.seed)
    return same and training["updates"] == run.until


def _train(run: SweepRun, robot: Robot) -> float | None:
    """Train; the time that took, or None where only a part was trained here [s]."""
    saved = updates_saved(run.folder)
    whole = saved is None and run.parent is None
    if saved is None and run.parent is not None:
        hand_down(run.parent, run.folder, resolved_config(run.preset, robot, run.seed))
    trained = train(
        run.preset,
        robot=robot,
        seed=run.seed,
        out=run.folder,
        resume=None if whole else run.folder,
        until=run.until,
        checkpoint_every_s=run.checkpoint_every_s,
        # A run is given one core.
        threads=1,
    )
    return trained.train_s if whole else None


def _evaluate(run: SweepRun, policy: Policy, robot: Robot) -> dict[str, Any]:
    """What `alula evaluate` says of the policy, as JSON values."""
    asked: dict[str, Any] = {
        "episodes": run.episodes,
        "seed": run.evaluation_seed,
        "nominal": not run.randomized,
        "robot": robot,
        "name": POLICY,
    }
    if is_arm_task(policy_task(policy.contract)):
        from alula.evaluation.arm_evaluate import evaluate_arm

        return evaluate_arm(policy, **asked)[0].to_json()
    from alula.evaluation.evaluate import evaluate

    return evaluate(policy, traced=1, **asked)[0].to_json()


def result_of(run: SweepRun) -> dict[str, Any] | None:
    """The result of a run; None as long as there is none.

    Raises:
        AlulaError: a file that cannot be read.
    """
    return json_file(run.folder / RESULT)


def json_file(path: Path) -> dict[str, Any] | None:
    """What a result's file holds; None where there is none.

    Raises:
        AlulaError: a file that cannot be read.
    """
    if not path.is_file():
        return None
    data = read_bounded(path, kind="result", max_bytes=MAX_RESULT_BYTES)
    try:
        return json.loads(data)
    except ValueError as e:
        raise AlulaError(f"result {path}: damaged: {e}") from None


def reached(run: SweepRun) -> int:
    """Updates of this run that are done and saved."""
    if (run.folder / RESULT).is_file():
        return run.until
    return min(updates_saved(run.folder) or 0, run.until)


def measure_of(evaluation: dict[str, Any]) -> tuple[str, float | None]:
    """What is measured beside success, and its value: the return of an arm's episodes, or the error of a flight [m]."""
    if "episode_return" in evaluation:
        return "return", evaluation["episode_return"]
    key = "hover_error_m" if evaluation["task"] == "hover" else "tracking_rmse_m"
    return "error_m", evaluation[key]


def score_of(result: dict[str, Any]) -> Score:
    """Success; between equals the larger return or the smaller error."""
    if "error" in result:
        return LOST
    evaluation = result["evaluation"]
    name, value = measure_of(evaluation)
    if value is None:
        return evaluation["success"], -math.inf
    return evaluation["success"], value if name == "return" else -value
