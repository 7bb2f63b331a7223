"""Evaluations of arm policies by their files: scripted ones that must succeed or fail, robots, settings, bad input."""

# mujoco loads its names from a compiled module that the type checker cannot read.
# pyright: reportAttributeAccessIssue=false

import json
from dataclasses import asdict, replace
from pathlib import Path

import mujoco
import numpy as np
import pytest

from alula import evaluate_arm as command_line
from alula.cli import main
from alula.errors import AlulaError
from alula.evaluate_arm import arm_text
from alula.evaluation import arm_evaluate
from alula.evaluation.arm_evaluate import check_fits, evaluate_arm, policy_arm, policy_setting
from alula.evaluation.evaluate import evaluate, policy_robot
from alula.evaluation.stored_settings import arm_config_from_json
from alula.policies.onnx_file import Policy
from alula.presets import ARM_RANDOMIZED, get_preset
from alula.robots.arm import load_arm
from alula.sim.arm_config import ArmRandomization, ArmSimConfig

UR5E = load_arm("ur5e")


def reaching(n: int):
    """Steps along the damped inverse of the tool's Jacobian, which must reach every goal."""
    model = mujoco.MjModel.from_xml_string(UR5E.model)
    data, site = mujoco.MjData(model), model.site(UR5E.tool).id
    size = ArmSimConfig().action_size(UR5E)

    def act(observation: np.ndarray) -> np.ndarray:
        action = np.empty((n, 6), np.float32)
        for row, o in zip(action, observation.astype(float), strict=True):
            data.qpos[:] = o[:6]
            mujoco.mj_kinematics(model, data)
            mujoco.mj_comPos(model, data)
            jacobian = np.zeros((6, 6))
            mujoco.mj_jacSite(model, data, jacobian[:3], jacobian[3:], site)
            # joints 6, velocities 6, position error 3, rotation error 3
            error = np.concatenate([o[12:15], 0.5 * o[15:18]])
            damped = jacobian @ jacobian.T + 1e-3 * np.eye(6)
            row[:] = np.clip(0.3 * (jacobian.T @ np.linalg.solve(damped, error)) / size, -1, 1)
        return action

    return act


def test_a_scripted_policy_succeeds_and_one_that_stands_still_fails(arm_policy: Policy) -> None:
    moved, run = evaluate_arm(arm_policy, episodes=8, seed=1, controller=reaching)
    assert moved.metrics.success == 1.0
    assert moved.metrics.failures == {k: 0 for k in run.kinds}
    error = moved.metrics.measures["error"]
    assert error is not None
    assert error.p95 < 0.01
    assert (moved.steps, moved.control_dt, moved.sim, moved.same_robot) == (150, 0.02, "mujoco", True)  # fmt: skip

    still, _ = evaluate_arm(arm_policy, episodes=20, seed=1, steps=10)
    assert still.metrics.success <= 0.1
    failed = still.metrics.failures
    assert failed["not at the goal"] == sum(failed.values()) == 20 - still.metrics.succeeded


def test_other_physics_and_randomisation_are_other_episodes(arm_policy: Policy) -> None:
    setting = {"episodes": 4, "seed": 3, "steps": 15}
    trained, again, other, wide = (
        evaluate_arm(arm_policy, **setting, controller=reaching, **kind)[0].metrics
        for kind in ({}, {}, {"sim": "mujoco-other"}, {"nominal": False})
    )
    assert trained == again
    assert trained.measures != other.measures
    a, b = trained.measures["error"], other.measures["error"]
    assert a is not None
    assert b is not None
    assert a.median == pytest.approx(b.median, abs=0.01)
    assert wide.measures != trained.measures
    assert evaluate_arm(arm_policy, **setting | {"seed": 4})[0].metrics != trained


def test_nominal_is_without_randomisation_and_delay(arm_policy: Policy) -> None:
    assert policy_setting(arm_policy.contract).config.randomization == ArmRandomization()
    wide = policy_setting(arm_policy.contract, nominal=False).config
    assert wide == get_preset("ur5e-reach").sim


def test_another_robot_is_refused_unless_asked_for(arm_policy: Policy) -> None:
    other = replace(UR5E, name="nimbus")
    with pytest.raises(AlulaError, match="for the robot 'ur5e', not 'nimbus'"):
        evaluate_arm(arm_policy, robot=other, episodes=2, steps=2)
    moved, _ = evaluate_arm(arm_policy, robot=other, episodes=2, steps=2, other_robot=True)
    assert (moved.robot, moved.same_robot) == ("nimbus", False)
    # a variant has the name and other numbers
    moved, _ = evaluate_arm(
        arm_policy, robot=replace(UR5E, position_noise=0.01), episodes=2, steps=2
    )
    assert (moved.robot, moved.same_robot) == ("ur5e", False)


def test_what_the_contract_does_not_fit_is_refused(arm_policy: Policy) -> None:
    contract, setting = arm_policy.contract, policy_setting(arm_policy.contract)
    with pytest.raises(AlulaError, match="the same names in the same order"):
        policy_setting(contract, robot=load_arm("panda"), other_robot=True)
    fast = replace(UR5E, velocity_max=tuple(2.0 * v for v in UR5E.velocity_max))
    with pytest.raises(AlulaError, match=r"action for 'shoulder_pan_joint' means .*0\.0314"):
        policy_setting(contract, robot=fast)
    with pytest.raises(AlulaError, match=r"policy observes .* task 'reach' shows"):
        check_fits(contract, replace(setting, config=replace(setting.config, history=4)))
    torque = replace(setting.config, action="joint_torque")
    with pytest.raises(AlulaError, match=r"means .'joint_position_delta'"):
        check_fits(contract, replace(setting, config=torque))
    with pytest.raises(AlulaError, match=r"control_dt 0\.02; allowed: the contract's 0\.01"):
        policy_setting(replace(contract, control_dt=0.01))
    with pytest.raises(AlulaError, match="unknown task 'land'"):
        policy_setting(replace(contract, task="land"))
    with pytest.raises(AlulaError, match=r"does not ship.*--robot"):
        policy_arm(replace(contract, robot="nimbus"))
    with pytest.raises(AlulaError, match=r"with parameters 0000.*--robot"):
        policy_arm(replace(contract, robot_hash="0" * 64))


def test_flights_refuse_the_policy_of_an_arm(arm_policy: Policy) -> None:
    with pytest.raises(
        AlulaError, match="for the arm 'ur5e'; allowed here: policies of multirotors"
    ):
        policy_robot(arm_policy.contract)
    with pytest.raises(AlulaError, match="for the arm 'ur5e'"):
        evaluate(arm_policy, episodes=1)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"sim": "warp"}, "unknown simulator 'warp'; known: mujoco, mujoco-other, mujoco-warp"),
        ({"episodes": 0}, "episodes is 0; allowed: 1 to"),
        ({"episodes": 10**9}, "allowed: 1 to"),
        ({"steps": 0}, "0 steps; allowed"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_bad_numbers(arm_policy: Policy, change: dict, match: str) -> None:
    with pytest.raises(AlulaError, match=match):
        evaluate_arm(arm_policy, **change)


def test_the_setting_comes_back_from_json() -> None:
    config = ArmSimConfig(randomization=ARM_RANDOMIZED, episode_steps=77, history=3)
    assert arm_config_from_json(json.loads(json.dumps(asdict(config)))) == config


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"action": "fly"}, "action is 'fly'; allowed: joint_position_delta"),
        ({"substeps": 2.5}, "substeps is 2.5"),
        ({"substeps": 10**6}, "substeps is 1000000"),
        ({"episode_steps": "many"}, "episode_steps is 'many'"),
        ({"control_dt": True}, "control_dt is True"),
        ({"noise": float("nan")}, "noise is nan"),
        ({"wings": 2}, "unknown setting 'wings'"),
        ({"randomization": {"mass": 2.0}}, "randomization mass is 2.0"),
        ({"randomization": {"actuator_lag": [0.0]}}, "actuator_lag is"),
        ({"randomization": {"observation_delay_steps": [0, 1.5]}}, "observation_delay_steps is"),
        ({"randomization": 3}, "cannot be read"),
    ],
)
def test_settings_of_strangers(arm_policy: Policy, change: dict, match: str) -> None:
    table = asdict(ArmSimConfig()) | change
    with pytest.raises(AlulaError, match=match):
        policy_setting(replace(arm_policy.contract, training={"sim": table}))


@pytest.mark.parametrize("training", [{}, {"sim": None}, {"sim": []}, {"sim": {"history": 3}}])
def test_a_file_without_its_setting(arm_policy: Policy, training: dict) -> None:
    with pytest.raises(AlulaError, match="cannot be read"):
        policy_setting(replace(arm_policy.contract, training=training))


def test_a_file_that_would_keep_a_million_commands(arm_policy: Policy) -> None:
    config = ArmSimConfig(
        control_dt=1e-3, substeps=100, randomization=ArmRandomization(actuator_delay=(0.0, 0.1))
    )
    contract = replace(arm_policy.contract, control_dt=1e-3, training={"sim": asdict(config)})
    assert policy_setting(contract_of(contract)).config.substeps == 100
    wide = replace(config, control_dt=1e-4)
    contract = replace(contract, control_dt=1e-4, training={"sim": asdict(wide)})
    with pytest.raises(AlulaError, match="delays actuators by 100000 physics steps"):
        policy_setting(contract, nominal=False)


def contract_of(contract):
    """The same with the action sizes of its rate."""
    sizes = ArmSimConfig(control_dt=contract.control_dt).action_size(UR5E)
    action = tuple(
        replace(entry, low=-float(s), high=float(s))
        for entry, s in zip(contract.action, sizes, strict=True)
    )
    return replace(contract, action=action)


def test_the_command_line(arm_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["evaluate", str(arm_path), "--episodes", "3", "--sim", "mujoco-other", "--json"]) == 0
    )
    out, err = capsys.readouterr()
    data = json.loads(out)
    assert (data["sim"], data["episodes"], data["interrupted"]) == ("mujoco-other", 3, False)
    assert data["as_trained"]["sim"] == "mujoco"
    assert set(data["gap"]) == {"success", "success_interval", "measures"}
    assert "ur5e as its file says, task reach, other physics: 3 episodes of 3 s" in err
    assert "error at the end  median" in err
    for bad, match in (
        (["--sim", "multirotor"], "allowed here: mujoco, mujoco-other, mujoco-warp"),
        (["--robot", "crazyflie"], "is for an arm, not for 'crazyflie'"),
    ):
        assert main(["evaluate", str(arm_path), *bad]) == 2
        assert match in capsys.readouterr().err


def test_ctrl_c_states_what_was_finished(
    arm_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = arm_evaluate.evaluate_arm

    def second_is_interrupted(*arguments, sim, **keywords):
        if sim == "mujoco-other":
            raise KeyboardInterrupt
        return found(*arguments, sim=sim, **keywords)

    monkeypatch.setattr(command_line.arm_evaluate, "evaluate_arm", second_is_interrupted)
    assert main(["evaluate", str(arm_path), "--episodes", "2", "--sim", "mujoco-other", "--json"]) == 130  # fmt: skip
    out, err = capsys.readouterr()
    assert json.loads(out)["interrupted"]
    assert "alula: interrupted; what was finished is stated" in err


def test_inspect_names_joints_and_units(arm_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(arm_path)]) == 0
    out = capsys.readouterr().out
    assert "tool_position_error_w" in out
    # 0.5 * pi rad/s * 0.02 s
    assert "joint_position_delta, -1 is -0.0314159, +1 is 0.0314159 rad or m" in out


def test_the_longest_measure_is_set_apart_from_its_value() -> None:
    found = {
        "median": 0.0369,
        "p95": 0.05,
        "median_interval": (0.03, 0.04),
        "p95_interval": (0.04, 0.06),
    }
    data = {
        "robot": "panda", "nominal": True, "same_robot": True, "task": "pivot_lift", "sim": "mujoco", "episodes": 2,
        "steps": 10, "control_dt": 0.02, "success": 1.0, "success_interval": (0.3, 1.0), "failures": {},
        "measures": {"error": found, "overhang": found}, "episode_return": 1.0, "episode_return_interval": (0.0, 2.0),
    }  # fmt: skip
    text = arm_text(data)
    assert "\nerror at the end  median 3.69 cm" in text
    assert "\noverhang at the end median 3.69 cm" in text


@pytest.mark.slow
def test_the_same_episodes_in_mujoco_warp(
    arm_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("mujoco_warp", reason="mujoco-warp is not installed")
    command = ["evaluate", str(arm_path), "--episodes", "4", "--sim", "mujoco-warp", "--json"]
    assert main(command) == 0
    out, err = capsys.readouterr()
    data = json.loads(out)
    assert (data["sim"], data["as_trained"]["sim"]) == ("mujoco-warp", "mujoco")
    assert "task reach, MuJoCo Warp: 4 episodes" in err
    # The same starts and goals, moved by the same policy without contacts.
    mean, _ = data["gap"]["measures"]["error"]
    assert abs(mean) < 1e-4
    assert data["success"] == data["as_trained"]["success"]
