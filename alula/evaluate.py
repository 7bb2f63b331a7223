"""What `alula evaluate` does: fly a policy file, or have an arm moved by it, and say in words how it went."""

from typing import Any

from alula.build import is_arm_task, load_any_robot
from alula.command_base import Outcome
from alula.errors import AlulaError
from alula.evaluation.evaluate import LAP_S, MAX_EPISODES, check_kind, policy_task
from alula.evaluation.evaluate import evaluate as fly
from alula.options import Evaluate
from alula.policies.onnx_file import load_policy
from alula.robots.arm import Arm
from alula.robots.multirotor import Multirotor


def evaluate(command: Evaluate, robot_name: str | None) -> Outcome:
    """Evaluate as the command says; `robot_name` is a name or file, None the shipped robot of the policy.

    Raises:
        AlulaError: unreadable or unsuitable policy, robot or number, or a report's folder that is taken.
    """
    if not 1 <= command.episodes <= MAX_EPISODES:
        raise AlulaError(f"episodes is {command.episodes}; allowed: 1 to {MAX_EPISODES}")
    policy = load_policy(command.policy)
    robot = None if robot_name is None else load_any_robot(robot_name)
    check_kind(policy, robot)
    if is_arm_task(policy_task(policy.contract)):
        assert not isinstance(robot, Multirotor)
        # Flights in alula's own physics do without MuJoCo.
        from alula.evaluate_arm import evaluate_arm

        return evaluate_arm(command, policy, robot)
    assert not isinstance(robot, Arm)
    sim = command.sim or "multirotor"
    if sim == "mujoco-other" or sim == "mujoco-warp":
        raise AlulaError(f"--sim {sim} is for arms; allowed here: multirotor, mujoco")
    if command.report is not None:
        raise AlulaError(
            "--report is for arms; allowed for a multirotor: alula fly, which writes one"
        )
    evaluation, _ = fly(
        policy,
        name=str(command.policy),
        sim=sim,
        robot=robot,
        episodes=command.episodes,
        seed=command.seed,
        nominal=not command.randomized,
        lap=LAP_S if command.lap is None else command.lap,
        traced=1,
        other_robot=command.other_robot,
    )
    data = evaluation.to_json()
    return Outcome(data=data, text=flight_text(data))


def flight_text(data: dict[str, Any]) -> str:
    """A flight evaluation for people, with 95 % intervals."""
    physics = "MuJoCo" if data["sim"] == "mujoco" else "alula's physics"
    low, high = data["success_interval"]
    lines = [
        f"{whom(data)}, task {data['task']}, in {physics}: "
        f"{data['episodes']} episodes of {data['steps'] * data['control_dt']:g} s",
        f"success           {data['success']:.2%} ({low:.2%} to {high:.2%})",
    ]
    for key, label in (
        ("hover_error", "mean error"),
        ("hover_error_p95", "95th percentile"),
        ("tracking_rmse", "tracking RMSE"),
    ):
        value, interval = data[f"{key}_m"], data[f"{key}_interval_m"]
        if value is not None:
            low, high = interval
            lines.append(f"{label:18}{100 * value:.2f} cm ({100 * low:.2f} to {100 * high:.2f})")
    return "\n".join([*lines, *failed(data)])


def whom(data: dict[str, Any]) -> str:
    """Which robot, as what."""
    vehicle = "as its file says" if data["nominal"] else "over the whole range of the training"
    other = "" if data["same_robot"] else " (not the one the policy was trained for)"
    return f"{data['robot']}{other} {vehicle}"


def failed(data: dict[str, Any]) -> list[str]:
    """What became of the failed episodes, in a line if there are any."""
    failures = ", ".join(f"{n} {kind}" for kind, n in data["failures"].items() if n)
    return [f"failed            {failures}"] if failures else []
