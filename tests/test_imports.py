"""The house rules that a machine can check: who imports whom, how long files are, what loads when."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "alula"
FILES = sorted(PACKAGE.rglob("*.py"))
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 80

BASE = {"arrays", "errors", "bag_file", "c_compiler", "__init__"}
"""Modules that anyone may import."""
CONTRACT = {"policies", "frames"} | BASE
MAY_IMPORT: dict[str, set[str]] = {
    "arrays": set(),
    "errors": set(),
    "bag_file": {"errors"},
    "c_compiler": {"errors"},
    "__init__": set(),
    "frames": BASE,
    "robots": BASE | {"frames"},
    "policies": BASE | {"frames"},
    "sim": BASE | {"robots", "policies", "frames"},
    "tasks": BASE | {"robots", "policies", "sim", "frames"},
    "identification": BASE | {"robots", "sim", "frames"},
    "firmware_export": CONTRACT,
    "deploy_ros2": CONTRACT | {"robots", "firmware_export"},
}
"""Parts of the package and the parts each may import; a part may import itself. Parts not named here
(training, evaluation, presets, build, the command line) stand above and may import any of these."""
SIMULATED_ROBOT = {
    f"alula.deploy_ros2.{name}"
    for name in ("sim_node", "sim_multirotor", "sim_arm_node", "sim_arm")
}
"""What stands where the hardware would; nothing else of deploy_ros2 may import these or a simulator."""
ABOVE = {"build", "presets", "cli", "commands", "fly"}


def module_of(path: Path) -> str:
    """The dotted name of a file."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def part_of(module: str) -> str:
    """alula.sim.multirotor.kernels -> sim; alula -> __init__."""
    names = module.split(".")
    return names[1] if len(names) > 1 else "__init__"


def imported(path: Path) -> set[str]:
    """Every alula module that a file imports anywhere, also inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the direction"
            module = node.module or ""
            # `from alula import frames` imports the module alula.frames
            names = {f"{module}.{a.name}" for a in node.names} if module == "alula" else {module}
            found |= names
    return {m for m in found if m.split(".")[0] == "alula" and m != "alula.__version__"}


def top_level_imports(path: Path) -> set[str]:
    """Names of the packages that are imported when a file is."""
    found: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            found |= {a.name.split(".")[0] for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").split(".")[0])
    return found


def test_the_rules_see_the_package():
    assert len(FILES) > 20
    assert imported(PACKAGE / "build.py") >= {"alula.presets", "alula.sim.config"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_data_runs_down_the_path_and_never_back(path):
    part = part_of(module_of(path))
    allowed = MAY_IMPORT.get(part)
    for module in imported(path):
        target = part_of(module)
        if module_of(path) in SIMULATED_ROBOT:
            assert target in {"deploy_ros2", "sim", "tasks"} | CONTRACT | {"robots"}
        elif module in SIMULATED_ROBOT:
            pytest.fail(f"{module_of(path)} imports the simulated robot")
        elif allowed is None:
            assert part in ABOVE or target not in {"cli", "commands", "fly"}, (
                f"{module_of(path)} imports the command line ({module})"
            )
        else:
            assert target == part or target in allowed, (
                f"{module_of(path)} imports {module}; {part} may import {', '.join(sorted(allowed))}"
            )


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_and_functions_stay_short(path):
    text = path.read_text()
    assert len(text.splitlines()) <= MAX_FILE_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= MAX_FUNCTION_LINES, f"{path.name}: {node.name} has {length} lines"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_configurations_are_frozen_and_keyword_only(path):
    """A dataclass named ...Config, Preset or Disturbances must be an immutable set of named values."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not (isinstance(node, ast.ClassDef) and node.name.endswith(("Config", "Preset"))):
            continue
        arguments = {
            keyword.arg
            for decorator in node.decorator_list
            if isinstance(decorator, ast.Call)
            for keyword in decorator.keywords
            if isinstance(keyword.value, ast.Constant) and keyword.value.value is True
        }
        assert {"frozen", "kw_only"} <= arguments, f"{path.name}: {node.name}"


def test_no_house_of_helpers():
    names = {p.stem for p in FILES}
    assert not names & {"utils", "util", "helpers", "misc", "common", "manager", "registry"}


def test_the_command_line_imports_nothing_heavy():
    standard = sys.stdlib_module_names
    assert top_level_imports(PACKAGE / "cli.py") - standard <= {"alula", "tyro"}


def loaded_after(statement: str) -> set[str]:
    """Top-level modules in sys.modules once a statement has run in a fresh interpreter."""
    code = f"import sys; {statement}; print(' '.join({{m.split('.')[0] for m in sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return set(done.stdout.split())


def test_help_loads_no_numpy():
    heavy = {"numpy", "scipy", "mujoco", "onnx", "onnxruntime", "matplotlib", "pyarrow", "torch"}
    assert not loaded_after("import alula.cli") & heavy


LEARN_WITH_TORCH = {
    f"alula.training.{name}"
    for name in (
        "distributed",
        "distributional",
        "environments",
        "exploration",
        "layers",
        "ppo",
        "replay",
        "residual",
        "rollout",
        "sac",
        "shared_memory",
        "short_horizon_cuda",
    )
}
"""The only ones that may import torch; nothing imports them before it trains with them."""
RUN_BY_ISAAC = {"alula.sim.isaac.isaac_gym", "alula.sim.isaac.isaac_lab"}
"""Scripts of an interpreter that has Isaac, whose tensors are torch's; they import it when they run, and nothing of alula."""

FLY_WITH_TORCH = {
    "alula.bench_gpu",
    "alula.bench_warp",
    "alula.sim.mujoco.arm_warp",
    "alula.sim.mujoco.warp_physics",
    "alula.sim.multirotor.cuda",
}
"""Simulators whose environments are torch's tensors, on a GPU, and what measures them."""
MAY_IMPORT_TORCH = LEARN_WITH_TORCH | FLY_WITH_TORCH

NEED_EXTRAS = {
    "alula.bench_warp",
    "alula.sim.mujoco.arm_warp",
    "alula.sim.mujoco.warp_physics",
}
"""What says in one line which extra it needs."""


def test_no_torch_but_where_it_is_learned_with():
    apart = MAY_IMPORT_TORCH | NEED_EXTRAS
    modules = [m for path in FILES if (m := module_of(path)) not in apart]
    imports = f"import importlib; [importlib.import_module(m) for m in {modules}]"
    loaded = loaded_after(imports)
    assert {"alula", "numpy", "mujoco"} <= loaded
    assert "torch" not in loaded


@pytest.mark.parametrize("name", ["channel", "isaac_gym", "isaac_lab"])
def test_what_isaac_runs_stands_alone_and_is_old_python(name):
    """Isaac Gym's interpreters are Python 3.7 and 3.8, without alula."""
    path = PACKAGE / "sim" / "isaac" / f"{name}.py"
    tree = ast.parse(path.read_text(), feature_version=(3, 7))
    assert not imported(path)
    assert top_level_imports(path) <= {"__future__", "numpy"} | sys.stdlib_module_names
    keywords = {
        k.arg for node in ast.walk(tree) if isinstance(node, ast.Call) for k in node.keywords
    }
    assert "strict" not in keywords


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_nothing_unpickles_or_evaluates(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = {a.name for a in node.names} | {getattr(node, "module", "") or ""}
            assert not names & {"pickle", "marshal", "shelve"}, path.name
            assert "torch" not in names or module_of(path) in MAY_IMPORT_TORCH | RUN_BY_ISAAC, (
                path.name
            )
        if isinstance(node, ast.Attribute):
            # torch.load unpickles
            assert (
                node.attr != "load"
                or not isinstance(node.value, ast.Name)
                or node.value.id != "torch"
            )
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"eval", "exec"}, path.name
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            assert isinstance(node.value, ast.Constant), path.name
            assert node.value.value is False, path.name
