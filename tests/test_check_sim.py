"""`alula check-sim`: table, report, exit codes."""

import json
from pathlib import Path

import pytest

from alula import check_sim, cli
from alula.errors import AlulaError
from alula.evaluation.simulator_checks import CheckFailed
from alula.options import CheckSim


def test_a_multirotor_passes_and_the_report_holds_everything(tmp_path: Path, capsys) -> None:
    out = tmp_path / "check"
    assert cli.main(["check-sim", "multirotor", "--out", str(out), "--json"]) == 0
    said = capsys.readouterr()
    data = json.loads(said.out)
    assert data["failed"] == 0
    assert data["passed"] == len(data["checks"]) >= 15
    assert "15 of 15 checks passed" in said.err
    assert {"alula", "python", "numpy", "mujoco"} <= set(data["software"])
    assert {"processor", "cores", "gpus", "system"} <= set(data["hardware"])
    text = (out / "check-sim.md").read_text()
    assert "| vehicles_fall | passed | -0.19" in text
    held = json.loads(text.split("```json\n")[1].split("\n```")[0])
    assert held["checks"] == data["checks"] == json.loads((out / "result.json").read_text())["checks"]  # fmt: skip
    assert str(tmp_path) not in text


def test_a_failed_check_is_named_and_makes_the_exit_code_1(monkeypatch, tmp_path: Path, capsys) -> None:  # fmt: skip
    def bad(case) -> str:
        """Nothing is right."""
        raise CheckFailed("z is 3 m")

    def crash(case) -> str:
        """Nothing works."""
        raise RuntimeError("lost\nthe GPU")

    monkeypatch.setattr(check_sim, "checks_of", lambda case: [bad, crash])
    assert cli.main(["check-sim", "mujoco", "--out", str(tmp_path / "a")]) == 1
    said = capsys.readouterr()
    assert "alula: check failed: bad: z is 3 m" in said.err
    assert "alula: check failed: crash: RuntimeError: lost the GPU" in said.err
    assert (
        "| crash | **FAILED** | RuntimeError: lost the GPU | Nothing works. |"
        in (tmp_path / "a" / "check-sim.md").read_text()
    )


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (CheckSim(back_end="mujoco", robot="ur5e", task="hover"), "task hover is not for robot ur5e"),
        (CheckSim(back_end="mujoco", robot="ur5e", task="lift"), "the model of 'ur5e' lacks the site 'left_pad'"),
        (CheckSim(back_end="multirotor", robot="panda"), "multirotor flies multirotors"),
        (CheckSim(back_end="mujoco-warp", robot="x500"), "mujoco-warp moves arms"),
        (CheckSim(back_end="multirotor", robot="nobody"), "nobody"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(command: CheckSim, says: str, tmp_path: Path) -> None:
    from dataclasses import replace

    with pytest.raises(AlulaError, match=says):
        check_sim.check_sim(replace(command, out=tmp_path / "x"))
    assert not (tmp_path / "x").exists()


def test_the_folder_of_a_training_is_never_replaced(tmp_path: Path, capsys) -> None:
    names = ("config.json", "policy.onnx", "result.json")
    for name in names:
        (tmp_path / name).write_text("{}")
    assert cli.main(["check-sim", "mujoco", "--out", str(tmp_path), "--overwrite"]) == 2
    assert "holds a training" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(names)
