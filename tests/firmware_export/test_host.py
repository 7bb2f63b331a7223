"""The compiler's side: what is found, what is refused."""

import shutil
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest

from alula.c_compiler import find_compiler
from alula.errors import AlulaError
from alula.firmware_export.c_export import export_c
from alula.firmware_export.host import build_host, c_max_abs_diff
from alula.policies.onnx_file import load_policy, write_policy

pytestmark = pytest.mark.skipif(not shutil.which("gcc"), reason="no gcc to compile the export")
example = run_path(str(Path(__file__).parents[1] / "policies" / "example.py"))


@pytest.fixture(scope="module")
def c_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("c")
    write_policy(folder / "policy.onnx", *example["make_policy"](hidden=(8,), past_actions=2))
    export_c(folder / "policy.onnx", folder)
    return folder


def test_c_reproduces_the_file_but_not_another(c_dir, tmp_path):
    policy = load_policy(c_dir / "policy.onnx")
    assert c_max_abs_diff(policy, c_dir) < 1e-6
    network, contract = example["make_policy"](hidden=(8,), past_actions=2, seed=1)
    write_policy(tmp_path / "other.onnx", network, contract)
    assert c_max_abs_diff(load_policy(tmp_path / "other.onnx"), c_dir) > 0.1


def test_two_libraries_at_once(c_dir, tmp_path):
    write_policy(tmp_path / "p.onnx", *example["make_policy"](past_actions=0, rotors=6))
    export_c(tmp_path / "p.onnx", tmp_path / "c")
    first, second = build_host(c_dir), build_host(tmp_path / "c")
    assert (first.action_size, second.action_size) == (4, 6)
    assert first.self_test() < 1e-6
    assert second.self_test() < 1e-6


def test_wrong_shape(c_dir):
    host = build_host(c_dir)
    for shape in ((18,), (3, 17)):
        with pytest.raises(AlulaError, match="observations of shape"):
            host.run(np.zeros(shape))
    assert host.run(np.zeros((0, 18))).shape == (0, 4)


def test_compiler_choice(monkeypatch):
    monkeypatch.setenv("CC", "gcc -O1")
    assert find_compiler() == ["gcc", "-O1"]
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(AlulaError, match=r"no C compiler found \(tried no-such-compiler\)"):
        find_compiler()
    monkeypatch.setenv("CC", "'")
    with pytest.raises(AlulaError, match="allowed: a compiler command"):
        find_compiler()
    monkeypatch.delenv("CC")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(AlulaError, match="tried cc, gcc, clang"):
        find_compiler()


def test_compiler_that_fails(c_dir, tmp_path, monkeypatch):
    with pytest.raises(AlulaError, match=r"holds no policy\.c"):
        build_host(tmp_path)
    (tmp_path / "policy.c").write_text("this is not C\n")
    with pytest.raises(AlulaError, match=r"refuses the exported C: .*error") as caught:
        build_host(tmp_path)
    assert "\n" not in str(caught.value)
    monkeypatch.setenv("CC", "false")
    with pytest.raises(AlulaError, match="no message"):
        build_host(c_dir)
    monkeypatch.setenv("CC", "true")
    with pytest.raises(AlulaError, match="did not give a library"):
        build_host(c_dir)
