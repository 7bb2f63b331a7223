"""Study, robustness map and report of an arm's policy: whole, self-contained, with pictures or with the reason."""

import json
from dataclasses import replace
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from alula.cli import main
from alula.errors import AlulaError
from alula.evaluation import arm_pictures, arm_report, arm_study
from alula.evaluation.arm_episodes import run_episodes
from alula.evaluation.arm_figures import positions, shown
from alula.evaluation.arm_pictures import frames_of, strips, with_sky
from alula.evaluation.arm_report import chosen, write_arm_report
from alula.evaluation.arm_study import ArmStudy, run_arm_study
from alula.policies.onnx_file import Policy
from alula.run_folder import RESULT
from alula.sim.arm_config import ArmRandomization

toy_setting = run_path(str(Path(__file__).parent / "toy_arm.py"))["toy_setting"]


def still(n: int):
    return lambda observation: np.zeros((len(observation), 1), np.float32)


@pytest.fixture(scope="module")
def study(arm_policy: Policy) -> ArmStudy:
    return run_arm_study(arm_policy, episodes=6, steps=6, sweep_episodes=2)


@pytest.fixture
def toy_study(arm_policy: Policy, monkeypatch: pytest.MonkeyPatch) -> ArmStudy:
    """A study of the toy arm at rest, one of whose three goals is where it stands."""

    def setting(contract: Any, **keywords: Any):
        return toy_setting()

    for module in (arm_study, arm_study.evaluate_arm.__globals__):
        put = monkeypatch.setitem if isinstance(module, dict) else monkeypatch.setattr
        put(module, "policy_setting", setting)  # type: ignore[operator]
    resting = SimpleNamespace(contract=arm_policy.contract, controller=still)
    return run_arm_study(cast(Policy, resting), episodes=6, steps=4, sweep_episodes=3)


def test_a_study_runs_all_parts(study: ArmStudy) -> None:
    kinds = [(e.sim, e.nominal) for e, _ in study.runs]
    assert kinds == [("mujoco", True), ("mujoco-other", True), ("mujoco", False)]
    assert not study.interrupted
    assert study.gap is not None
    # the whole course of the first run only
    assert [run.qpos.shape[1] for _, run in study.runs] == [6, 0, 0]
    names = [sweep.name for sweep in study.sweeps]
    # no object, so nothing of one, and no friction in the model of a UR5e
    assert names == ["mass of the links", "delay of the commands"]
    # +-10 %, 0 to 10 ms
    assert [s.trained for s in study.sweeps] == [(0.9, 1.1), (0.0, 10.0)]
    for sweep in study.sweeps:
        # wider than training, and nominal at one point
        assert min(sweep.values) <= sweep.trained[0]
        assert max(sweep.values) > sweep.trained[1]
        assert len(sweep.metrics) == len(sweep.values)
        assert {m.episodes for m in sweep.metrics} == {2}
    nominal = [s.metrics[s.values.index(v)] for s, v in zip(study.sweeps, (1, 0), strict=True)]
    assert nominal[0] == nominal[1]
    data = json.loads(json.dumps(study.to_json()))
    assert (data["sim"], len(data["others"]), len(data["robustness"])) == ("mujoco", 2, 2)


def test_the_map_of_an_object_has_its_factors(toy_study: ArmStudy) -> None:
    assert [sweep.name for sweep in toy_study.sweeps] == [
        "mass of the links", "friction of the joints", "delay of the commands",
        "mass of the object", "friction of the contacts", "size of the object",
    ]  # fmt: skip
    # one of three goals is where the arm stands, whatever it weighs
    for sweep in toy_study.sweeps:
        assert [m.succeeded for m in sweep.metrics] == [1] * len(sweep.values)


def test_the_map_leaves_out_what_the_arm_does_not_have() -> None:
    setting = toy_setting()
    model = setting.robot.model.replace('damping="0.5" frictionloss="0.1" ', "")
    smooth = replace(setting, robot=replace(setting.robot, model=model))
    random = ArmRandomization(damping=0.2, frictionloss=0.5)
    (friction,) = [
        p for p in arm_study._plans(setting, random) if p.name == "friction of the joints"
    ]
    # The sweep scales both: trained for both are 20 % only.
    assert friction.trained == pytest.approx((0.8, 1.2))
    names = [[p.name for p in arm_study._plans(s, random)] for s in (setting, smooth)]
    assert "friction of the joints" in names[0]
    assert names[1] == [name for name in names[0] if name != "friction of the joints"]


def test_ctrl_c_keeps_what_was_finished(
    arm_policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(what: str, done: int, total: int) -> None:
        if what == wanted:
            raise KeyboardInterrupt

    wanted = "delay of the commands"
    found = run_arm_study(arm_policy, episodes=2, steps=2, sweep_episodes=1, note=interrupted)
    assert found.interrupted
    assert len(found.runs) == 3
    assert [sweep.name for sweep in found.sweeps] == ["mass of the links"]
    wanted = "other physics"
    found = run_arm_study(arm_policy, episodes=2, steps=2, sweep_episodes=1, note=interrupted)
    assert (len(found.runs), found.gap, found.sweeps) == (1, None, ())
    wanted = "as trained"
    with pytest.raises(KeyboardInterrupt):
        run_arm_study(arm_policy, episodes=2, steps=2, sweep_episodes=1, note=interrupted)
    with pytest.raises(AlulaError, match="sweep_episodes is 0"):
        run_arm_study(arm_policy, episodes=2, steps=2, sweep_episodes=0)


def test_a_success_and_a_failure_are_shown(toy_study: ArmStudy) -> None:
    run = toy_study.runs[0][1]
    assert chosen(run) == {"a success": 0, "a failure": 1}
    assert chosen(replace(run, succeeded=np.ones(6, bool))) == {"a success": 0}
    assert chosen(replace(run, qpos=run.qpos[:, :0])) == {}


def test_positions_of_tool_and_object() -> None:
    setting = toy_setting()
    run = run_episodes(still(2), setting.simulator(2), steps=3, seed=0, traced=2)
    tool, moved = positions(setting, run.qpos[:, 1])
    # the tool stands 0.3 m out and 0.5 m up, the object lies at x = 0.6 m
    assert tool == pytest.approx(np.tile([0.3, 0.0, 0.5], (4, 1)), abs=1e-3)
    assert moved["object"] == pytest.approx(np.tile([0.6, 0.0, 0.02], (4, 1)), abs=1e-3)
    assert shown("angle")[0] * np.pi == pytest.approx(180.0)
    assert shown("error") == (100.0, "cm")


def test_frames_are_spread_over_the_episode() -> None:
    assert frames_of(7).tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    assert frames_of(70).tolist() == [0, 10, 20, 30, 40, 50, 60, 70]
    assert frames_of(1).tolist() == [0, 1]


def test_the_report_is_whole_with_paths_where_nothing_can_be_drawn(
    arm_policy: Policy, toy_study: ArmStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arm_report, "strips", lambda *arguments: ([], "egl: no <device>"))
    log = tmp_path / "metrics.csv"
    log.write_text("update,cost\n1,0.5\n2,0.25\n")
    file = write_arm_report(
        tmp_path / "report.html", policy=arm_policy, study=toy_study, training_log=log
    )
    text = file.read_text()
    assert "No pictures could be drawn here (egl: no &lt;device&gt;)" in text
    for part in (
        "2 of 6 episodes succeed as trained", "Paths of tool and objects", "A failure: close",
        "Success over size of the object", "Angle at the end", "change by other physics",
        "Cost per step", "joint_position", "Failed: not at the goal",
    ):  # fmt: skip
        assert part in text, part
    assert "http" not in text.replace("http-equiv", "")
    assert "<script" not in text
    with pytest.raises(AlulaError, match="exists"):
        write_arm_report(file, policy=arm_policy, study=toy_study)
    with pytest.raises(AlulaError, match="0 evaluations"):
        write_arm_report(tmp_path / "b.html", policy=arm_policy, study=replace(toy_study, runs=()))


def test_where_all_ended_early_there_is_a_report_all_the_same(
    arm_policy: Policy, toy_study: ArmStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arm_report, "strips", lambda *arguments: ([], "none"))
    evaluation, run = toy_study.runs[0]
    lost = replace(
        run, succeeded=np.zeros(6, bool), failure=np.zeros(6, int), measures={"angle": np.full(6, np.nan)}
    )  # fmt: skip
    metrics = replace(evaluation.metrics, measures={"angle": None}, success=0.0, succeeded=0)
    short = replace(
        toy_study, runs=((replace(evaluation, metrics=metrics), lost),), gap=None, sweeps=(), interrupted=True
    )  # fmt: skip
    text = write_arm_report(tmp_path / "r.html", policy=arm_policy, study=short).read_text()
    assert "Interrupted: only what was finished is here." in text
    assert "Robustness" not in text


def test_pictures_are_drawn_or_the_reason_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    setting = toy_setting()
    model = replace(setting, edit=with_sky).simulator(1).model
    course = np.zeros((3, model.nq))
    course[:, 0] = 0.0, 0.5, 1.0
    course[:, 1:5] = 0.6, 0.0, 0.02, 1.0
    monkeypatch.setattr(arm_pictures, "FRAMES", 3)
    monkeypatch.setattr(arm_pictures, "SIZE", (80, 60))
    files, reason = strips(model, [course], [np.array([0.0, 0.3, 0.5])])
    if not files:
        assert reason
        pytest.skip(f"no OpenGL here: {reason}")
    assert files[0].startswith(b"\x89PNG")
    width, height = (int.from_bytes(files[0][k : k + 4]) for k in (16, 20))
    # drawn in a process of its own, where the sizes are the usual ones: three pictures make one row of four
    assert (width, height) == (4 * 280, 210)
    monkeypatch.setenv("MUJOCO_GL", "no-such-backend")
    files, reason = strips(model, [course], [None])
    assert files == []
    assert reason.startswith("no-such-backend: ")
    assert "\n" not in reason


def test_ctrl_c_while_drawing_leaves_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: Any, **keywords: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(arm_pictures.subprocess, "run", interrupted)
    model = toy_setting().simulator(1).model
    assert strips(model, [np.zeros((3, model.nq))], [None]) == ([], "interrupted")


def test_the_command_writes_a_folder(
    arm_path: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(arm_report, "strips", lambda *arguments: ([], "not here"))
    monkeypatch.setattr(arm_study, "SWEEP_EPISODES", 1)
    short = run_arm_study.__kwdefaults__
    monkeypatch.setitem(short, "sweep_episodes", 1)
    monkeypatch.setitem(short, "steps", 3)
    out = tmp_path / "report"
    assert main(["evaluate", str(arm_path), "--episodes", "2", "--report", str(out)]) == 0
    assert {p.name for p in out.iterdir()} == {"report.html", RESULT}
    assert json.loads((out / RESULT).read_text())["report"] == str(out / "report.html")
    assert str(out / "report.html") in capsys.readouterr().out
    assert main(["evaluate", str(arm_path), "--episodes", "2", "--report", str(out)]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main(["evaluate", str(arm_path), "--episodes", "2", "--report", str(out), "--overwrite"]) == 0  # fmt: skip
    capsys.readouterr()
    (out / "config.json").write_text("{}")
    assert main(["evaluate", str(arm_path), "--episodes", "2", "--report", str(out), "--overwrite"]) == 2  # fmt: skip
    assert "holds a training" in capsys.readouterr().err
    assert (out / "config.json").is_file()
