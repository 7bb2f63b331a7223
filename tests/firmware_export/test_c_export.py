"""The exported C: clean under strict compilers, right by hand, safe against strangers' names."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest

from alula.errors import AlulaError
from alula.firmware_export.c_export import export_c, export_onnx
from alula.firmware_export.host import build_host
from alula.policies.contract import ActionEntry, Contract, ObservationEntry
from alula.policies.network import Network
from alula.policies.onnx_file import load_policy, write_policy

pytestmark = pytest.mark.skipif(not shutil.which("gcc"), reason="no gcc to compile the export")
example = run_path(str(Path(__file__).parents[1] / "policies" / "example.py"))
STRICT = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wdouble-promotion", "-Werror"]


def compile_and_run(folder, main, *flags):
    """Output lines of a C program that includes policy.h."""
    (folder / "main.c").write_text(main)
    command = ["gcc", "-std=c99", *STRICT, "-O1", *flags, "policy.c", "main.c", "-o", "main"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return subprocess.run(
        [folder / "main"], check=True, capture_output=True, text=True
    ).stdout.split("\n")


def exported(tmp_path, network, contract):
    write_policy(tmp_path / "policy.onnx", network, contract)
    return export_c(tmp_path / "policy.onnx", tmp_path / "c")


def recorder():
    """z = a - 2 * (oldest of three past actions) + (oldest of two samples of a), so order shows.

    Input: a at t-1, a at t, then past actions at t-3, t-2, t-1.
    """
    network = Network(
        mean=np.zeros(5),
        scale=np.ones(5),
        clip=100.0,
        weights=(np.array([[1.0], [1.0], [-2.0], [0.0], [0.0]]),),
        biases=(np.zeros(1),),
    )
    contract = Contract(
        robot="r",
        robot_hash="h",
        task="t",
        control_dt=0.004,
        observation=(
            ObservationEntry(name="a", unit="m", frame="w", size=1, history=2),
            ObservationEntry(
                name="previous_action", unit="-", frame="-", size=1, history=3, initial=-0.5
            ),
        ),
        action=(ActionEntry(name="M1", low=0.1, high=0.9, unit="-", meaning="throttle"),),
        training={},
    )
    return network, contract


def squash(z):
    return z / (1 + z * z) ** 0.5


def test_needs_nothing_but_two_memory_functions(tmp_path):
    exported(tmp_path, *example["make_policy"]())
    for flags in (["-Os"], ["-O2", "-ffast-math"], ["-O0"]):
        subprocess.run(
            ["gcc", "-std=c99", *flags, "-c", "policy.c"], cwd=tmp_path / "c", check=True
        )
        told = subprocess.run(
            ["nm", "policy.o"], cwd=tmp_path / "c", check=True, capture_output=True, text=True
        )
        symbols = [line.split()[-2:] for line in told.stdout.splitlines()]
        assert {name for kind, name in symbols if kind == "U"} <= {"memcpy", "memmove", "memset"}
        # No global data that can be written: all state is in policy_t.
        assert not [name for kind, name in symbols if kind.lower() in "bdc"]
        functions = {name for kind, name in symbols if kind == "T"}
        assert functions == {
            f"policy_{n}"
            for n in ("init", "reset", "stamp", "step", "command", "status", "self_test")
        }


def test_self_test_program_and_sanitizers(tmp_path):
    made = exported(tmp_path, *example["make_policy"](sensor_history=3))
    flags = ["-std=c99", *STRICT, "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    subprocess.run(
        ["gcc", *flags, "policy.c", "policy_test.c", "-o", "t"], cwd=made.folder, check=True
    )
    done = subprocess.run([made.folder / "t"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "passed" in done.stdout


def test_self_test_finds_a_changed_weight(tmp_path):
    made = exported(tmp_path, *example["make_policy"]())
    source = (made.folder / "policy.c").read_text()
    head, tail = source.split("BIAS_2[4] = {\n    ")
    value, rest = tail.split("f,", 1)
    (made.folder / "policy.c").write_text(
        f"{head}BIAS_2[4] = {{\n    {float(value) + 0.01}f,{rest}"
    )
    assert build_host(made.folder).self_test() > 1e-4


def test_hand_computed_steps(tmp_path):
    made = exported(tmp_path, *recorder())
    action = build_host(made.folder).run(np.array([[1.0], [2.0], [3.0], [4.0]]))[:, 0]
    # Step 1: the history of `a` is filled with 1, the past actions are -0.5: z = 1 + 1 + 1 = 3.
    # Steps 2, 3: oldest past action still -0.5: z = 1 + 2 + 1 = 4, z = 2 + 3 + 1 = 6.
    # Step 4: the oldest is now the action of step 1: z = 3 + 4 - 2 * squash(3).
    expected = [squash(3), squash(4), squash(6), squash(7 - 2 * squash(3))]
    np.testing.assert_allclose(action, expected, rtol=0, atol=1e-7)
    np.testing.assert_allclose(squash(3), 0.9486833, atol=1e-7)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_bad_input_holds_the_last_action_and_is_counted(tmp_path, bad):
    made = exported(tmp_path, *recorder())
    host = build_host(made.folder)
    action, held = host.run_counting(np.array([[bad], [1.0], [bad], [2.0], [bad]]))
    # Nothing valid yet: the initial action -0.5. Then z = 1 + 1 - 2 (-0.5) = 3, and that is held.
    # The history of `a` stood still, so its oldest of two is 1: z = 1 + 2 - 2 (-0.5) = 4.
    # (past actions at that step: -0.5, squash(3), squash(3))
    expected = [-0.5, squash(3), squash(3), squash(4), squash(4)]
    np.testing.assert_allclose(action[:, 0], expected, rtol=0, atol=1e-7)
    assert held == 3


def test_bad_input_without_action_history_starts_at_zero(tmp_path):
    made = exported(tmp_path, *example["make_policy"](past_actions=0))
    supplied = np.full((2, 18), np.nan, np.float32)
    np.testing.assert_array_equal(build_host(made.folder).run(supplied), np.zeros((2, 4)))


# -nostartfiles: the start-up code that -ffast-math links would flush subnormal numbers in this whole process.
@pytest.mark.parametrize(
    "flags", [(), ("-O3", "-ffast-math", "-nostartfiles")], ids=["plain", "fast-math"]
)
def test_any_input_gives_a_finite_action_in_range(tmp_path, flags, monkeypatch):
    made = exported(tmp_path, *example["make_policy"](sensor_history=3))
    monkeypatch.setenv("CC", " ".join(["gcc", *flags]))
    host = build_host(made.folder)
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**32, size=(20_000, 18), dtype=np.uint32)
    # Random bits are NaN or infinite once in 128: mostly huge, tiny and subnormal numbers.
    action, held = host.run_counting(bits.view(np.float32))
    assert np.isfinite(action).all()
    assert np.abs(action).max() <= 1.0
    bad = ~np.isfinite(bits.view(np.float32)).all(axis=1)
    assert held == bad.sum() > 1000
    assert np.float32(1e-40) * np.float32(1.0) > 0.0, "subnormal numbers are still alive here"


def test_use_from_c(tmp_path):
    """As a firmware writes it, two robots, one of them damaged; test_step.py and test_held.py say more."""
    made = exported(tmp_path, *recorder())
    lines = compile_and_run(
        made.folder,
        """
        #include "policy.h"
        #include <stdio.h>
        #include <string.h>
        int main(void)
        {
            static policy_t robot[2];
            policy_observation_t seen;
            float action[POLICY_NUM_ACTIONS], command[POLICY_NUM_ACTIONS];
            const char *const names[] = POLICY_ACTION_NAMES;
            uint64_t time_us = 0;
            int step;
            policy_init(&robot[0]);
            policy_init(&robot[1]);
            for (step = 1; step <= 4; step++, time_us += POLICY_STEP_US) {
                seen.a[0] = (float)step;
                seen.time_us[POLICY_FIELD_A] = time_us;
                (void)policy_step(&robot[0], &seen, time_us, action);
                printf("%.9g ", (double)action[POLICY_ACTION_M1]);
                seen.a[0] = -5.0f;
                policy_stamp(&seen, time_us);
                (void)policy_step(&robot[1], &seen, time_us, action);
            }
            printf("\\n");
            memset(robot[0].history_previous_action, 0xff, sizeof robot[0].history_previous_action); /* NaN */
            for (step = 0; step < 4; step++, time_us += POLICY_STEP_US) {
                policy_stamp(&seen, time_us);
                printf("%d ", (int)policy_step(&robot[0], &seen, time_us, action));
            }
            printf("%u %u\\n", policy_status(&robot[0])->damaged, policy_status(&robot[1])->damaged);
            for (step = -2; step <= 2; step++) {
                action[0] = 0.5f * (float)step;
                policy_command(action, command);
                printf("%.9g ", (double)command[0]);
            }
            printf("%s %.9g %u\\n", names[0], (double)POLICY_CONTROL_DT, POLICY_STEP_US);
            return 0;
        }
        """,
    )
    # Robot 0 steps as in test_hand_computed_steps although robot 1 flies in between.
    expected = [squash(3), squash(4), squash(6), squash(7 - 2 * squash(3))]
    np.testing.assert_allclose([float(x) for x in lines[0].split()], expected, atol=1e-7)
    # Damaged memory (256) is held for as long as it stays in the history of three actions, then forgotten;
    # an input is above the clip where it is NaN (8).
    assert lines[1].split() == ["264", "264", "264", "0", "3", "0"]
    # 0.1 + (a + 1) / 2 * (0.9 - 0.1) for a = -1, -0.5, 0, 0.5, 1; the ends are exactly those of the contract.
    *commands, name, dt, step_us = lines[2].split()
    np.testing.assert_allclose([float(x) for x in commands], [0.1, 0.3, 0.5, 0.7, 0.9], rtol=1e-6)
    assert np.float32(commands[0]) == np.float32(0.1)
    assert np.float32(commands[-1]) == np.float32(0.9)
    assert (name, np.float32(dt), step_us) == ("M1", np.float32(0.004), "4000")


def test_same_policy_same_bytes_in_any_process(tmp_path):
    """Other hash seeds, another locale, another working folder."""
    made = exported(tmp_path, *example["make_policy"](sensor_history=2, hidden=(20, 7)))
    wanted = {"policy.h", "policy.c", "policy_test.c", "README.md"}
    assert wanted <= {f.name for f in made.files}
    line = (
        "import sys; from alula.firmware_export.c_export import export_c; export_c(*sys.argv[1:])"
    )
    root = str(Path(__file__).parents[2])
    for seed, locale, folder in (("0", "C", tmp_path), ("12345", "tr_TR.UTF-8", Path("/"))):
        changes = {"PYTHONHASHSEED": seed, "LC_ALL": locale, "PYTHONPATH": root}
        out = tmp_path / seed
        command = [sys.executable, "-c", line, str(tmp_path / "policy.onnx"), str(out)]
        subprocess.run(command, cwd=folder, env={**os.environ, **changes}, check=True)
        assert sorted(f.name for f in out.iterdir()) == sorted(f.name for f in made.files)
        for one in made.files:
            assert one.read_bytes() == (out / one.name).read_bytes()


def test_sizes_are_those_of_the_compiler(tmp_path):
    made = exported(tmp_path, *example["make_policy"](sensor_history=2, hidden=(20, 12)))
    policy = load_policy(tmp_path / "policy.onnx")
    host = build_host(made.folder)
    assert host.ram_bytes == made.ram_bytes
    assert made.macs == policy.macs == 149 * 20 + 20 * 12 + 12 * 4
    # 40 steps of 18 + 4 floats: 3520 B a sequence, four fit in 16 kB
    assert made.golden_sequences == 4
    subprocess.run(["gcc", "-std=c99", "-Os", "-c", "policy.c"], cwd=made.folder, check=True)
    text = subprocess.run(
        ["size", "-A", "policy.o"], cwd=made.folder, check=True, capture_output=True, text=True
    ).stdout
    rodata = sum(int(line.split()[1]) for line in text.splitlines() if line.startswith(".rodata"))
    assert 0 <= rodata - made.flash_bytes < 256


def test_one_full_sequence_even_where_it_is_long(tmp_path):
    made = exported(tmp_path, *example["make_policy"](past_actions=300, hidden=(4,)))
    assert made.golden_sequences == 1
    assert build_host(made.folder).self_test() < 1e-6


HOSTILE = [
    "*/ int main(void){return 0;} /*",
    '"; #include </etc/passwd>',
    "@TABLES@",
    "??/",
    "\\",
    "int",
    "linux",
    "NULL",
    "__FILE__",
    "M1",
    "m1",
    "M 1",
    "9lives",
    "größe",
    "",
    "_",
    "x" * 200,
    "x" * 199 + "y",
    "%s%n",
    "size",
]


def test_hostile_names_become_plain_c(tmp_path):
    names = [n for n in HOSTILE if n]
    contract = Contract(
        robot="*/ #error owned /*",
        robot_hash='"; system("x',
        task="// \\",
        control_dt=0.01,
        observation=tuple(
            ObservationEntry(name=n, unit="*/", frame="??/", size=2, history=1 + i % 2)
            for i, n in enumerate(names)
        ),
        action=tuple(ActionEntry(name=n, low=-1.0, high=1e30, unit=n, meaning=n) for n in names),
        training={"preset": "*/", "seed": ["*/", {"a": "\n*/"}], "version": '"'},
    )
    made = exported(tmp_path, example["make_network"](contract, hidden=(4,)), contract)
    for flags in (["gcc", "-std=c99"], ["gcc", "-std=gnu11"], ["g++", "-std=c++17", "-x", "c++"]):
        done = subprocess.run(
            [*flags, *STRICT, "-Wcomment", "-Wtrigraphs", "-c", "policy.c", "-o", "x.o"],
            cwd=made.folder,
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stderr) == (0, "")
    for source in ("policy.h", "policy.c", "policy_test.c"):
        # What is left without comments is code: the strangers' words are not among it.
        strip = ["gcc", "-fpreprocessed", "-E", "-P", "-x", "c", source]
        done = subprocess.run(strip, cwd=made.folder, check=True, capture_output=True, text=True)
        code = re.sub(r'"[^"\n]*"', "", done.stdout)
        assert "policy_" in code
        assert not [w for w in ("owned", "etc/", "system", "@", "??", "*/") if w in code]
    assert build_host(made.folder).self_test() < 1e-6


def test_existing_export_is_kept_unless_told(tmp_path):
    made = exported(tmp_path, *example["make_policy"](hidden=(4,)))
    (made.folder / "policy.h").write_text("mine")
    with pytest.raises(AlulaError, match=r"policy\.h exists"):
        export_c(tmp_path / "policy.onnx", made.folder)
    assert (made.folder / "policy.h").read_text() == "mine"
    export_c(tmp_path / "policy.onnx", made.folder, overwrite=True)
    assert "policy_step" in (made.folder / "policy.h").read_text()


def test_bad_policy_leaves_no_folder(tmp_path):
    (tmp_path / "bad.onnx").write_bytes(b"no")
    for export in (export_c, export_onnx):
        with pytest.raises(AlulaError, match="not an ONNX file"):
            export(tmp_path / "bad.onnx", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("control_dt", "delay"), [(1e-7, 0.0), (300.0, 0.0), (0.01, 3000.0), (0.01, -1.0)]
)
def test_times_that_the_c_cannot_count(tmp_path, control_dt, delay):
    network, contract = recorder()
    entries = (replace(contract.observation[0], delay=delay), contract.observation[1])
    contract = replace(contract, control_dt=control_dt, observation=entries)
    write_policy(tmp_path / "policy.onnx", network, contract)
    with pytest.raises(AlulaError, match=r"steps of .* the C allows steps from 1e-06 s .* 2147 s$"):
        export_c(tmp_path / "policy.onnx", tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_onnx_target_is_the_same_file(tmp_path):
    write_policy(tmp_path / "p.onnx", *example["make_policy"](hidden=(4,)))
    copy = export_onnx(tmp_path / "p.onnx", tmp_path / "out")
    assert copy == tmp_path / "out" / "policy.onnx"
    assert copy.read_bytes() == (tmp_path / "p.onnx").read_bytes()
    with pytest.raises(AlulaError, match="exists"):
        export_onnx(tmp_path / "p.onnx", tmp_path / "out")
