"""The command line as a user meets it: a process, its output, its exit code."""

import itertools
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from alula import cli
from alula.cli import COMMANDS
from alula.run_folder import run_folder

ROOT = Path(__file__).resolve().parents[1]


def alula(*arguments: object, cwd: Path, **kwargs) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100"}
    return subprocess.run(
        [sys.executable, "-m", "alula.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=600,
        cwd=cwd,
        env=environment,
        check=False,
        **kwargs,
    )


def assert_refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """Exit code 2 and one line on standard error that holds the words."""
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    lines = done.stderr.strip().splitlines()
    assert lines[-1].startswith("alula: error: ")
    for word in words:
        assert word in lines[-1]
    assert done.stdout == ""


def listing(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


def test_help_names_every_command_quickly(tmp_path):
    # Processor time, which other work on the machine hardly changes
    begun = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = alula("--help", cwd=tmp_path)
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0
    for name in COMMANDS:
        assert f"\n  {name} " in done.stdout
    spent = ended.ru_utime + ended.ru_stime - begun.ru_utime - begun.ru_stime
    # 0.2 s; anything heavy that is imported would add more than that
    assert spent < 0.6


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name, tmp_path):
    done = alula(name, "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert f"usage: alula {name}" in done.stdout
    assert "--json" in done.stdout
    assert "STR" not in done.stdout.split("options")[0], "an argument without a name"
    if name not in ("presets", "robots"):
        assert "Examples:" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["evaluate", "x.onnx", "--sim", "foo"], "--sim"),
        (["check-sim", "mujoco", "--task", "foo"], "--task"),
        (["check-sim", "foo"], "back-end"),
    ],
)
def test_choices_are_those_that_there_are(arguments, named, tmp_path):
    done = alula(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert f"'{named}'" in done.stderr
    assert "'None'" not in done.stderr
    usage = alula(arguments[0], "--help", cwd=tmp_path).stdout
    assert named in usage or named.upper() in usage


def test_the_help_says_what_a_report_takes_beside_its_episodes(tmp_path):
    done = alula("evaluate", "--help", cwd=tmp_path)
    about = " ".join(done.stdout.replace("│", " ").split())
    assert "has its own 64 at each of about 30 points, whatever this says" in about


def test_without_a_command_the_help_is_printed(tmp_path):
    done = alula(cwd=tmp_path)
    assert done.returncode == 0
    assert "commands:" in done.stdout


def test_version(tmp_path):
    from alula import __version__

    assert alula("--version", cwd=tmp_path).stdout == f"alula {__version__}\n"


def test_unknown_commands_and_options(tmp_path):
    assert_refused(alula("flt", cwd=tmp_path), "'flt'", "known: fly, train")
    for arguments in (["fly", "--sed", "1"], ["bench", "speed"], ["train"], ["fly", "--seed", "x"]):
        done = alula(*arguments, cwd=tmp_path)
        assert done.returncode == 2
        assert done.stdout == ""
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fly", "--preset", "no"], ["unknown preset 'no'", "known: l2f-hover, crazyflie-hover"]),
        (["train", "no"], ["unknown preset 'no'", "known: l2f-hover"]),
        (["bench", "sim", "--preset", "no"], ["unknown preset 'no'"]),
        (["bench", "sim", "--repeats", 0], ["repeats is 0"]),
        (["bench", "scale", "--repeats", 0], ["repeats is 0"]),
        (["train", "l2f-hover", "--robot", "no"], ["unknown robot 'no'", "known: crazyflie"]),
        (
            ["train", "l2f-hover", "--set", "sim.action=joint_torque"],
            ["unknown setting 'sim.action'"],
        ),
        (["train", "panda-reach", "--set", "sim.action=no"], ["action is 'no'", "allowed: joint_"]),
        (
            ["train", "panda-reach", "--set", "algo.clip=0.1,0.2"],
            ["2 values of algo.clip", "allowed"],
        ),
        (["fly", "--log", "no.usd"], ["no.usd"]),
        (["fly", "--log", "no.usd", "--mass", 0], ["mass is 0", "allowed"]),
        (["fly", "--seed", -1], ["seed is -1"]),
        (["identify", "no.usd", "--mass", "0.027"], ["no.usd"]),
        (["identify", "no.usd", "--mass", "0"], ["mass is 0", "allowed"]),
        (["identify", "no.usd", "--mass", "nan"], ["mass is nan", "allowed"]),
        (["identify", "no.usd", "--mass", "1", "--columns", "a"], ["column 'a'", "allowed"]),
        (["evaluate", "no.onnx"], ["no.onnx"]),
        (["evaluate", "no.onnx", "--episodes", 0], ["episodes is 0", "allowed"]),
        (["inspect", "no.onnx"], ["no.onnx"]),
        (["export", "no.onnx", "--target", "c", "--out", "c"], ["no.onnx"]),
    ],
    ids=lambda x: " ".join(map(str, x)) if isinstance(x, list) else None,
)
def test_bad_input_is_one_line_and_leaves_nothing(arguments, words, tmp_path):
    assert_refused(alula(*arguments, cwd=tmp_path), *words)
    assert listing(tmp_path) == []


@pytest.mark.parametrize("command", [["fly"], ["train", "l2f-hover"]], ids=["fly", "train"])
def test_output_folders_that_are_taken(command, tmp_path):
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "thesis.tex").write_text("precious")
    done = alula(*command, "--out", taken, cwd=tmp_path)
    assert_refused(done, "taken", "not empty", "--overwrite")
    # Only folders that alula made are ever replaced
    assert_refused(
        alula(*command, "--out", taken, "--overwrite", cwd=tmp_path), "not made by alula"
    )
    file = tmp_path / "file"
    file.write_text("")
    assert_refused(alula(*command, "--out", file, cwd=tmp_path), "not a folder")
    assert_refused(alula(*command, "--out", file / "below", cwd=tmp_path), "cannot be made")
    assert_refused(alula(*command, "--out", "/proc/alula", cwd=tmp_path), "cannot be made")
    assert listing(tmp_path) == ["file", "taken", "taken/thesis.tex"]
    assert (taken / "thesis.tex").read_text() == "precious"


def test_json_is_the_last_line_and_people_read_standard_error(tmp_path):
    for command, key in (("presets", "presets"), ("robots", "robots")):
        done = alula(command, "--json", cwd=tmp_path)
        assert done.returncode == 0
        assert len(done.stdout.splitlines()) == 1
        assert json.loads(done.stdout)[key]
        assert alula(command, cwd=tmp_path).stdout.strip() == done.stderr.strip()


def test_a_reader_that_leaves_is_no_error(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "alula.cli", "presets"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert "Traceback" not in process.stderr.read()
    process.wait()


@pytest.fixture(scope="module")
def policy(tmp_path_factory) -> Path:
    """A policy file of an untrained network for crazyflie-l2f."""
    import numpy as np

    from alula.build import build_contract, build_task
    from alula.policies.network import Network
    from alula.policies.onnx_file import write_policy
    from alula.presets import get_preset
    from alula.robots.multirotor import load_robot

    preset = get_preset("l2f-hover")
    contract = build_contract(
        preset, load_robot(preset.robot), build_task(preset.task), {"seed": 0}
    )
    rng = np.random.default_rng(0)
    sizes = (contract.observation_size, 16, contract.action_size)
    network = Network(
        mean=np.zeros(sizes[0], np.float32),
        scale=np.ones(sizes[0], np.float32),
        clip=5.0,
        weights=tuple(
            rng.normal(0.0, 0.2, (i, o)).astype(np.float32) for i, o in itertools.pairwise(sizes)
        ),
        biases=tuple(np.zeros(o, np.float32) for o in sizes[1:]),
    )
    path = tmp_path_factory.mktemp("policy") / "policy.onnx"
    write_policy(path, network, contract)
    return path


def result_of(done: subprocess.CompletedProcess[str]) -> dict:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_inspect(policy, tmp_path):
    result = result_of(alula("inspect", policy, "--json", cwd=tmp_path))
    assert result["contract"]["robot"] == "crazyflie-l2f"
    # 18 measured rows and 32 actions of 4 rotors
    assert result["layers"] == [18 + 32 * 4, 16, 4]
    assert result["golden_max_abs_diff"] <= 1e-5
    text = alula("inspect", policy, cwd=tmp_path).stdout
    for word in ("position_w", "previous_action", "M1", "throttle", "10 ms"):
        assert word in text


@pytest.mark.parametrize(
    ("target", "files"),
    [
        ("onnx", {"policy.onnx"}),
        ("c", {"policy.h", "policy.c", "policy_test.c", "example_main.c", "README.md"}),
    ],
)
def test_export(policy, target, files, tmp_path):
    arguments = ["export", policy, "--target", target, "--out", "out", "--json"]
    result = result_of(alula(*arguments, cwd=tmp_path))
    assert {Path(f).name for f in result["files"]} == files == set(listing(tmp_path / "out"))
    assert result["max_abs_diff"] <= 1e-5
    assert_refused(alula(*arguments[:-1], cwd=tmp_path), "exists", "allowed")


@pytest.mark.parametrize("sim", ["multirotor", "mujoco"])
def test_evaluate(policy, sim, tmp_path):
    arguments = ["evaluate", policy, "--sim", sim, "--episodes", 20, "--json"]
    result = result_of(alula(*arguments, cwd=tmp_path))
    assert result["episodes"] == 20
    low, high = result["success_interval"]
    assert 0.0 <= low <= result["success"] <= high <= 1.0
    assert "hover_error_m" in result
    assert "hover_error_p95_m" in result
    assert "tracking_rmse_m" in result
    assert result_of(alula(*arguments, cwd=tmp_path)) == result, "the same seed, the same figures"


def test_a_policy_for_another_robot(policy, tmp_path):
    arguments = ["evaluate", policy, "--robot", "x500", "--episodes", 16, "--json"]
    assert_refused(alula(*arguments, cwd=tmp_path), "the policy is for the robot")
    result = result_of(alula(*arguments, "--other-robot", cwd=tmp_path))
    assert result["same_robot"] is False


def test_damaged_policies(policy, tmp_path):
    whole = policy.read_bytes()
    damaged = tmp_path / "damaged.onnx"
    for content in (b"", b"onnx", whole[: len(whole) // 2], whole + b"\0" * 20_000_000):
        damaged.write_bytes(content)
        assert_refused(alula("inspect", damaged, cwd=tmp_path), "damaged.onnx")


def test_bench_sim(tmp_path):
    result = result_of(alula("bench", "sim", "--repeats", 2, "--json", cwd=tmp_path))
    assert result["steps_per_s_min"] <= result["steps_per_s"] <= result["steps_per_s_max"]
    assert result["steps_per_s"] > 1e5


@pytest.mark.slow
def test_fly_does_the_whole_job(tmp_path):
    out = tmp_path / "run"
    result = result_of(alula("fly", "--preset", "l2f-hover", "--out", out, "--json", cwd=tmp_path))
    keys = (
        "policy robot train_s total_s env_steps success hover_error_m mujoco_success "
        "mujoco_hover_error_m onnx_max_abs_diff c_max_abs_diff report"
    )
    assert set(keys.split()) <= set(result)
    assert result["success"] >= 0.99
    assert result["hover_error_m"] <= 0.03
    assert abs(result["success"] - result["mujoco_success"]) <= 0.01
    assert abs(result["hover_error_m"] - result["mujoco_hover_error_m"]) <= 0.01
    assert max(result["onnx_max_abs_diff"], result["c_max_abs_diff"]) <= 1e-5
    assert result["peak_memory_mb"] < 1000.0
    for key in ("policy", "robot_file", "report"):
        assert Path(result[key]).is_file()
    assert json.loads((out / "result.json").read_text()) == result
    assert [p.name for p in tmp_path.iterdir()] == ["run"], "no hidden folder stays"
    # the robot beside the policy is the one it was trained for
    again = result_of(alula("evaluate", result["policy"], "--episodes", 16, "--json", cwd=tmp_path))
    assert again["same_robot"] is True


@pytest.mark.slow
def test_fly_from_a_real_log(data_dir, tmp_path):
    log = data_dir / "cf2_arpl" / "log10.xz"
    if not log.is_file():
        pytest.skip(f"{log} not found")
    result = result_of(alula("fly", "--log", log, "--out", "run", "--json", cwd=tmp_path))
    assert result["robot"] != "crazyflie"
    assert result["success"] >= 0.99
    for name in ("robot.toml", "identification.json", "identification.png"):
        assert (tmp_path / "run" / name).is_file()


@pytest.mark.slow
def test_a_check_that_fails_is_named(tmp_path, monkeypatch, capsys):
    from alula import cli, fly

    monkeypatch.chdir(tmp_path)
    impossible = fly.Limits(success_min=1.01)
    monkeypatch.setattr(fly, "Limits", lambda: impossible)
    assert cli.main(["fly", "--preset", "l2f-hover", "--out", "run", "--json"]) == 1
    captured = capsys.readouterr()
    assert "check failed: success on the robot as it is" in captured.err
    assert "allowed: at least 1.01" in captured.err
    assert json.loads(captured.out.splitlines()[-1])["checks"][0]["passed"] is False
    assert (tmp_path / "run" / "report.html").is_file(), "a failed policy is reported as well"


def test_sigterm_keeps_what_ctrl_c_keeps(tmp_path, monkeypatch, capsys):
    def killed(command):
        with run_folder(tmp_path / "run", mark="config.json") as folder:
            (folder / "policy.onnx").write_text("so far")
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(cli, "run", killed)
    try:
        assert cli.main(["presets"]) == 143
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (tmp_path / "run" / "policy.onnx").read_text() == "so far"
    assert "alula: interrupted; the best policy so far is" in capsys.readouterr().err


def test_an_error_in_training_names_the_checkpoint(tmp_path, monkeypatch, capsys):
    def full(command):
        with run_folder(tmp_path / "run", mark="config.json") as folder:
            (folder / "checkpoint.npz").write_text("so far")
            raise OSError(28, "No space left on device", "metrics.csv")

    monkeypatch.setattr(cli, "run", full)
    assert cli.main(["presets"]) == 2
    (kept,) = tmp_path.iterdir()
    error = capsys.readouterr().err
    assert error.startswith("alula: error: metrics.csv: No space left on device; ")
    assert error.endswith(f"--resume {kept}\n")


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interruption_keeps_the_best_policy_and_can_be_resumed(tmp_path, number, code):
    process = subprocess.Popen(
        [sys.executable, "-m", "alula.cli", "train", "crazyflie-track", "--out", "run"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )
    while not list(tmp_path.glob(".run.*.partial/config.json")):
        assert process.poll() is None, process.stderr
        time.sleep(0.05)
    time.sleep(1.0)
    process.send_signal(number)
    error = process.communicate(timeout=60)[1]
    assert process.returncode == code, error
    assert "Traceback" not in error
    assert str(tmp_path / "run" / "policy.onnx") in error
    assert result_of(alula("inspect", "run/policy.onnx", "--json", cwd=tmp_path))
    resumed = alula(
        "train", "crazyflie-track", "--resume", "run", "--out", "again", "--json", cwd=tmp_path
    )
    assert Path(tmp_path / result_of(resumed)["policy"]).is_file()
    assert_refused(
        alula("train", "l2f-hover", "--resume", "run", "--out", "other", cwd=tmp_path),
        "another preset",
    )


@pytest.mark.parametrize(
    ("made_for", "taken"),
    [
        (["--mass", "0.027"], "r.toml"),
        (["--mass", "0.027"], "r.png"),
        (["--robot", "panda"], "r.toml"),
        (["--robot", "panda"], "r.xml"),
        (["--robot", "panda"], "r.png"),
    ],
)
def test_identify_replaces_nothing_and_says_so_first(
    made_for, taken, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / taken).write_text("precious")
    # Were it read first, the missing log would be the error.
    assert cli.main(["identify", "no.csv", *made_for, "--out", "r.toml"]) == 2
    assert f"{taken} exists; allowed: a new name, or --overwrite" in capsys.readouterr().err
    assert cli.main(["identify", "no.csv", *made_for, "--out", "no/r.toml"]) == 2
    assert "no/r.toml cannot be written" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == [taken]
    assert (tmp_path / taken).read_text() == "precious"


@pytest.mark.slow
def test_identify_a_real_log(data_dir, tmp_path):
    log = data_dir / "cf2_arpl" / "log10.xz"
    if not log.is_file():
        pytest.skip(f"{log} not found")
    arguments = ["identify", log, "--mass", 0.027, "--from", 35, "--to", 65, "--out", "r.toml"]
    result = result_of(alula(*arguments, "--json", cwd=tmp_path))
    keys = (
        "robot_file thrust_curve_n rotor_lag_s rotor_lag_up_s rotor_lag_down_s inertia_kg_m2 r2 "
        "unobservable intervals"
    )
    assert set(keys.split()) <= set(result)
    assert result["thrust_curve_n"][2] == pytest.approx(0.1284, rel=0.05)
    assert_refused(alula(*arguments, cwd=tmp_path), "r.toml exists")
    damaged = tmp_path / "damaged.xz"
    damaged.write_bytes(log.read_bytes()[:10_000])
    assert_refused(alula("identify", damaged, "--mass", 0.027, cwd=tmp_path), "damaged.xz")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["damaged.xz", "r.png", "r.toml"]


def test_a_full_disk_is_an_error_in_one_line(policy, tmp_path):
    """/dev/full refuses every write as a full disk does."""
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "alula.cli", "presets"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            check=False,
        )
    assert done.returncode == 2
    assert "No space left" in done.stderr
    assert "Traceback" not in done.stderr
