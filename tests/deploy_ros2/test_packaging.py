"""One root that is a wheel and a ROS 2 package: what is in it, and that both kinds of installation find it."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from xml.etree import ElementTree
from zipfile import ZipFile

import pytest

import alula

ROOT = Path(__file__).resolve().parents[2]
NODES = sorted(p.stem for p in (ROOT / "alula/deploy_ros2").glob("*_node.py"))
LAUNCH = sorted(p.name for p in (ROOT / "launch").glob("*.launch.py"))
SOURCES = ("alula", "launch", "config", "lib", "resource", "package.xml", "pyproject.toml", "setup.py", "setup.cfg", "README.md")  # fmt: skip
WITH_RCLPY = {"rclpy", "rcl_interfaces", "builtin_interfaces", "ament_index_python", "rcl_lifecycle"}  # fmt: skip
"""What comes with the wheel of rclpy by itself."""


def ros_packages():
    """Packages of ROS that some file of the robot side imports."""
    found = set()
    for path in (ROOT / "alula/deploy_ros2").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [a.name for a in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            found |= {n.split(".")[0] for n in names}
    ours = {"alula", "numpy", "onnxruntime", "rosbags", "mujoco", "scipy", "numba"}
    return {n for n in found if n not in ours and n not in sys.stdlib_module_names and n}


def copy_to(folder):
    """The files that a package is made of, and nothing that was built before."""
    folder.mkdir(parents=True)
    for name in SOURCES:
        if (ROOT / name).is_dir():
            ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(ROOT / name, folder / name, ignore=ignore)
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


def run(*command, **options):
    result = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_every_node_has_an_executable_that_starts_it():
    shims = {p.name: p for p in (ROOT / "lib/alula").iterdir()}
    assert sorted(shims) == NODES
    for name, shim in shims.items():
        assert os.access(shim, os.X_OK), name
        assert f"-m alula.deploy_ros2.{name} " in shim.read_text()


@pytest.mark.parametrize("name", LAUNCH)
def test_launch_files_name_what_is_there(name):
    text = (ROOT / "launch" / name).read_text()
    compile(text, name, "exec")
    started = set(re.findall(r'"(\w+_node)"', text))
    assert started
    assert started <= set(NODES)
    for file in re.findall(r'"config", "([\w.]+)"', text):
        assert (ROOT / "config" / file).is_file()


def test_the_package_says_what_it_needs():
    package = ElementTree.parse(ROOT / "package.xml").getroot()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert package.findtext("name") == project["name"]
    assert package.findtext("version") == alula.__version__
    # Without a valid address colcon takes the root for something else, without a word.
    assert re.fullmatch(r"[\w.+-]+@[\w.-]+\.\w+", package.find("maintainer").attrib["email"])  # type: ignore[union-attr]
    needed = ros_packages()
    assert "rclpy" in needed
    assert needed <= {d.text for d in package.iter("exec_depend")}
    extra = {re.split(r"[\[>=]", r)[0] for r in project["optional-dependencies"]["ros"]}
    assert {f"ros-{n.replace('_', '-')}" for n in needed - WITH_RCLPY} <= extra


def test_a_wheel_is_a_ros_package(tmp_path):
    """The ament index, launch files, parameter files and executables lie where ROS looks for them."""
    source = copy_to(tmp_path / "source")
    pip = (sys.executable, "-m", "pip")
    run(*pip, "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(tmp_path), str(source))  # fmt: skip
    (wheel,) = tmp_path.glob("alula-*.whl")
    with ZipFile(wheel) as archive:
        names = {n.split(".data/data/")[-1] for n in archive.namelist()}
    expected = {"share/ament_index/resource_index/packages/alula", "share/alula/package.xml"}
    expected |= {f"share/alula/launch/{n}" for n in LAUNCH}
    expected |= {f"share/alula/config/{p.name}" for p in (ROOT / "config").iterdir()}
    expected |= {f"lib/alula/{n}" for n in NODES}
    assert expected <= names
    assert not [n for n in names if n.startswith(("tests", "benchmarks")) or "__pycache__" in n]

    scratch = tmp_path / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", str(scratch))
    run(*pip, "--python", str(scratch), "install", "-q", "--no-deps", "--no-index", str(wheel))
    for name in expected:
        assert (scratch / name).exists(), name
    for name in NODES:
        # `ros2 run` starts only what is executable.
        assert os.access(scratch / "lib/alula" / name, os.X_OK)
    # The executable runs the Python of its own environment, where only alula is installed, wherever it is called.
    result = subprocess.run([scratch / "lib/alula/view_node"], cwd=ROOT, capture_output=True, text=True, check=False)  # fmt: skip
    assert str(scratch / "lib") in result.stderr
    assert "ModuleNotFoundError" in result.stderr


def test_colcon_builds_the_root(tmp_path):
    here = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    colcon = shutil.which("colcon", path=here)
    if colcon is None:
        pytest.skip("colcon is not installed (pip install colcon-common-extensions catkin_pkg)")
    copy_to(tmp_path / "src" / "alula")
    run(colcon, "build", cwd=tmp_path)
    prefix = tmp_path / "install" / "alula"
    assert (prefix / "share/ament_index/resource_index/packages/alula").is_file()
    assert sorted(p.name for p in (prefix / "share/alula/launch").glob("*.py")) == LAUNCH
    for name in NODES:
        assert os.access(prefix / "lib/alula" / name, os.X_OK)
    # Written only for packages that colcon takes for ROS packages.
    assert (prefix / "share/alula/hook/ament_prefix_path.sh").is_file()
