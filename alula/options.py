"""What each command can be asked for; field docstrings are the command line's help."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, get_args

import tyro
from tyro.constructors import PrimitiveConstructorSpec

from alula.command_base import Common
from alula.sweep.options import Sweep

_Kg = Annotated[float, tyro.conf.arg(metavar="KG")]
_Seed = Annotated[int, tyro.conf.arg(metavar="N")]
_Dir = Annotated[Path | None, tyro.conf.arg(metavar="DIR")]
_File = Annotated[Path | None, tyro.conf.arg(metavar="FILE")]
_From = Annotated[float | None, tyro.conf.arg(name="from", metavar="S")]
_To = Annotated[float | None, tyro.conf.arg(name="to", metavar="S")]
_Columns = Annotated[tuple[str, ...], tyro.conf.arg(metavar="OURS=THEIRS ...")]
_PresetName = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="PRESET")]
_PolicyFile = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="POLICY")]
PilTarget = Literal["cortex-m4f", "cortex-m7", "riscv32"]
BackEnd = Literal["multirotor", "mujoco", "mujoco-warp", "isaac-lab", "isaac-gym"]
_Sim = Literal["multirotor", "mujoco", "mujoco-other", "mujoco-warp"]
_Task = Literal["hover", "reach", "lift", "push", "insert", "pivot_lift"]
_LogFile = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="LOG")]


def _one_of(metavar: str, names: tuple[str, ...]) -> PrimitiveConstructorSpec[str | None]:
    """One of some names, or None where it is left out; tyro by itself would also offer a name 'None'."""
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=metavar,
        instance_from_str=lambda given: given[0],
        is_instance=lambda value: value is None or value in names,
        str_from_instance=lambda value: [str(value)],
        choices=names,
    )


@dataclass(frozen=True, kw_only=True)
class Fly(Common):
    """The main job: train a policy, check it in two simulators, export it, write a report.

    With --log the robot is first identified from that flight log and replaces the preset's robot.
    Ends with exit code 1 and names the check if the policy fails one.

    Examples:
      alula fly
      alula fly --preset l2f-hover --seed 1 --out runs/benchmark
      alula fly --log flight.usd --mass 0.031
      alula fly --pil
    """

    preset: Annotated[str, tyro.conf.arg(metavar="PRESET")] = "crazyflie-hover"
    """Named experiment; `alula presets` lists them."""
    log: _File = None
    """Flight log to identify the robot from: Crazyflie uSD, CSV, parquet or PX4 ULog, also .xz."""
    mass: _Kg = 0.027
    """Take-off mass of the robot in the log [kg]; the default is a bare Crazyflie 2.x."""
    from_s: _From = None
    """First second of the log to use [s]."""
    to_s: _To = None
    """Last second of the log to use [s]."""
    columns: _Columns = ()
    """Names of the log's columns where they are not alula's, as in `alula identify`."""
    seed: _Seed = 0
    """Seed of the training; evaluation draws other numbers."""
    out: _Dir = None
    """Folder for all results; must be new or empty. Default: runs/PRESET-TIME."""
    overwrite: bool = False
    """Replace the folder of an earlier run."""
    pil: Annotated[tuple[PilTarget, ...] | None, tyro.conf.arg(metavar="[TARGET]")] = None
    """Processor in the loop: also fly the exported C, cross-compiled, in an emulated cortex-m4f (if no TARGET
    is named), cortex-m7 or riscv32. Needs their compiler and QEMU; 10 to 90 s more."""


@dataclass(frozen=True, kw_only=True)
class Train(Common):
    """Train a preset and write its policy file, without the checks and the report of `alula fly`.

    Ctrl-C and SIGTERM keep the best policy so far, and a checkpoint for --resume.

    Examples:
      alula train l2f-hover
      alula train crazyflie-track --seed 3 --out runs/track3
      alula train crazyflie-hover --robot my-robot.toml
      alula train panda-reach --set sim.action=end_effector_delta --set algo.updates=400
    """

    preset: _PresetName
    """Named experiment; `alula presets` lists them."""
    robot: Annotated[str | None, tyro.conf.arg(metavar="ROBOT")] = None
    """Robot name or file in place of the preset's."""
    settings: Annotated[
        tuple[str, ...],
        tyro.conf.UseAppendAction,
        tyro.conf.arg(name="set", metavar="SETTING=VALUE"),
    ] = ()
    """A setting in place of the preset's: algo.NAME of the learner, or sim.NAME of the episodes; an unknown name lists them.
    May be repeated."""
    seed: _Seed = 0
    """Seed of everything random."""
    out: _Dir = None
    """Folder for the policy, its configuration and the training log. Default: runs/PRESET-TIME."""
    overwrite: bool = False
    """Replace the folder of an earlier run."""
    resume: _Dir = None
    """Folder of an interrupted run of the same preset and seed to go on from."""
    device: Annotated[str, tyro.conf.arg(metavar="DEVICE")] = "cpu"
    """Where to learn: cpu, or cuda for a GPU, on which the robots are then simulated too."""
    workers: Annotated[int, tyro.conf.arg(metavar="N")] = 1
    """Processes that share the environments, each with its own threads. For presets that learn by PPO, on the CPU."""


@dataclass(frozen=True, kw_only=True)
class Evaluate(Common):
    """Fly a policy file, or move an arm by it, in many episodes; state success and errors with 95 % intervals.

    Task and setting come from the policy file itself. The robot is the shipped one of the policy's name, or the
    robot.toml that `alula fly` and `alula train` leave beside the policy. On Ctrl-C an arm's evaluation states what was
    finished.

    Examples:
      alula evaluate runs/benchmark/policy.onnx
      alula evaluate policy.onnx --sim mujoco --episodes 1000
      alula evaluate policy.onnx --robot heavier.toml
      alula evaluate policy.onnx --robot x500 --other-robot
      alula evaluate runs/reach/policy.onnx --sim mujoco-other
      alula evaluate runs/reach/policy.onnx --report runs/reach/report
    """

    policy: _PolicyFile
    """Policy file."""
    sim: Annotated[_Sim | None, _one_of("SIM", get_args(_Sim))] = None
    """Physics. Of a multirotor: multirotor (alula's own kernels, the default) or mujoco, the independent second opinion.
    Of an arm: mujoco (as trained, the default), or beside it mujoco-other, with other integrator, solver, step and
    contacts, or mujoco-warp, its copy for GPUs (slow without one)."""
    robot: Annotated[str | None, tyro.conf.arg(metavar="ROBOT")] = None
    """Fly this robot (name or file): a variant of the policy's own, with its name and other numbers."""
    other_robot: bool = False
    """Fly a robot of another name than the policy's all the same, instead of refusing it."""
    episodes: Annotated[int, tyro.conf.arg(metavar="N")] = 1000
    """Number of episodes. The robustness map of --report has its own 64 at each of about 30 points, whatever this says."""
    seed: _Seed = 0
    """Seed of the episodes; no training seed draws the same ones."""
    randomized: bool = False
    """Draw vehicles and delays over the whole range of the training, instead of the robot as it is."""
    lap: Annotated[float | None, tyro.conf.arg(metavar="S")] = None
    """Time of one lap of the 2 m x 1 m figure-eight that a tracking policy of a multirotor flies [s]. Default: 5.5."""
    report: _Dir = None
    """Of an arm: run it as trained, in other physics, randomised and over the robustness map, and write report.html and
    result.json into this folder, which must be new or empty. The map takes about 30 x 64 episodes beside three times
    --episodes."""
    overwrite: bool = False
    """Replace the folder of an earlier report."""


@dataclass(frozen=True, kw_only=True)
class Identify(Common):
    """Estimate a robot's parameters from a log of a flight or of an arm's joints, and write its robot file.

    Flights: Crazyflie uSD v2 logs, PX4 ULog, CSV and parquet, also compressed with xz, and rosbag2. Arms: CSV, files of
    numbers or rosbag2 with joint positions, velocities and torques or motor currents. What a log does not show is
    listed as unobservable and not invented; every estimate comes with its 95 % interval.

    Examples:
      alula identify log10 --mass 0.027 --from 35 --to 65
      alula identify flight.csv --mass 0.031 --columns gyro_x=wx gyro_y=wy gyro_z=wz
      alula identify joints.csv --robot panda
      alula identify ur.csv --robot ur5e --columns time=1 q=2..7 qd=8..13 i=14..19
    """

    log: _LogFile
    """Log of a flight or of an arm's joints."""
    mass: _Kg | None = None
    """Take-off mass [kg] of a multirotor; weigh it, as no log contains it."""
    robot: Annotated[str | None, tyro.conf.arg(metavar="ARM")] = None
    """Arm (name or file) whose joints were logged, in place of --mass."""
    from_s: _From = None
    """First second to use [s]."""
    to_s: _To = None
    """Last second to use [s]."""
    columns: _Columns = ()
    """Names of the log's columns where they are not alula's: alula's name = the log's name."""
    out: _File = None
    """Robot file to write (.toml), in a folder that exists, with the plot (.png) and an arm's model (.xml) beside it.
    Default: ./NAME-OF-LOG.toml."""
    overwrite: bool = False
    """Replace existing files of these names."""


@dataclass(frozen=True, kw_only=True)
class Export(Common):
    """Turn a policy file into what a robot runs, and check it.

    c writes policy.h and policy.c, dependency-free C99 with static memory, and an example main. crazyflie
    writes an app for the Crazyflie's firmware, px4 an external module for PX4; both hold the same C. onnx writes the
    checked file again. The C is compiled here and compared with the policy file, on the golden sequences and in flight;
    where cross compilers are installed, flash, RAM and stack are stated for each processor.

    Examples:
      alula export runs/benchmark/policy.onnx --target c --out firmware/
      alula export runs/benchmark/policy.onnx --target crazyflie --out app/
      alula export runs/benchmark/policy.onnx --target c --weights int8 --out small/
    """

    policy: _PolicyFile
    """Policy file."""
    target: Literal["onnx", "c", "crazyflie", "px4"]
    """What to write."""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """Folder to write into."""
    weights: Literal["float32", "int8"] = "float32"
    """int8 takes a quarter of the flash. It is flown here first, and refused where the error grows by more than 10 %."""
    robot: Annotated[str | None, tyro.conf.arg(metavar="ROBOT")] = None
    """Robot (name or file) of the flights that judge: the policy's own or a variant of its name. Default: robot.toml beside the policy, else the shipped one."""
    overwrite: bool = False
    """Replace files of the same names."""


@dataclass(frozen=True, kw_only=True)
class Flightlog(Common):
    """Report on a real flight of a policy: tracking, latency, events, the sim-to-real gap, and its actions.

    Reads rosbag2 (sqlite3 and mcap; no ROS needed), PX4 ULog and Crazyflie uSD logs. What a log does not tell is
    listed. With --policy the recorded actions are compared with what the policy file says for the recorded
    observations: a wrong frame, sign or order shows there.

    Examples:
      alula flightlog flight.mcap --policy runs/benchmark/policy.onnx --out report
      alula flightlog bag/ --topics odometry=/odom command=/motors
      alula flightlog flight.ulg --robot x500 --from 20 --to 60
    """

    log: _LogFile
    """Flight log; of a rosbag2 its folder, or one .mcap or .db3 file."""
    policy: Annotated[Path | None, tyro.conf.arg(metavar="POLICY")] = None
    """Policy file that flew: gives the nominal period and the actions that should have been sent."""
    robot: Annotated[str | None, tyro.conf.arg(metavar="ROBOT")] = None
    """Robot (name or file) that the simulator flies. Default: robot.toml beside the policy, or the policy's own."""
    from_s: _From = None
    """First second of the log to use [s]; a rosbag2's is 0 at its first message."""
    to_s: _To = None
    """Last second of the log to use [s]."""
    topics: Annotated[tuple[str, ...], tyro.conf.arg(metavar="WHAT=TOPIC ...")] = ()
    """Topics of a rosbag2 where their types do not tell: odometry, command, reference, pose, imu, ... = topic."""
    out: _Dir = None
    """Folder for the report, flightlog.html and flightlog.json. Default: none is written."""
    overwrite: bool = False
    """Replace an earlier report."""


@dataclass(frozen=True, kw_only=True)
class Inspect(Common):
    """Check a policy file and print its contract: what it observes, what it commands, how it was trained.

    Examples:
      alula inspect runs/benchmark/policy.onnx
    """

    policy: _PolicyFile
    """Policy file."""


@dataclass(frozen=True, kw_only=True)
class Bench(Common):
    """Measure this machine: simulator steps per second on one core or on a GPU, training time, or two workers.

    Examples:
      alula bench sim
      alula bench train --repeats 5
      alula bench gpu --json > gpu.json
      alula bench gpu --preset panda-lift
      alula bench scale --json > scale.json
    """

    what: Annotated[
        Literal["sim", "train", "gpu", "scale"],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="sim|train|gpu|scale"),
    ]
    """The simulator (RK4, reward, reset, observation) on one core, the training of a preset, the simulator on a GPU (of an
    arm: MuJoCo Warp beside C MuJoCo), or training with two workers beside one."""
    preset: Annotated[str | None, tyro.conf.arg(metavar="PRESET")] = None
    """Named experiment to measure. Default: l2f-hover; of scale panda-reach."""
    repeats: Annotated[int, tyro.conf.arg(metavar="N")] = 5
    """Measurements; the median and the spread are reported."""


@dataclass(frozen=True, kw_only=True)
class CheckSim(Common):
    """Check that a simulator does here what alula's learners and evaluation rely on, and write a report.

    Shapes, seeds, time limits, resets of single environments, final observations, refused actions, free fall, joint and
    quaternion order. Ends with exit code 1 and names the check if one fails. Isaac runs in a process of its own, in the
    interpreter that has it; nobody at alula has run it yet, so please send the report back.

    Examples:
      alula check-sim multirotor
      alula check-sim mujoco --robot ur5e
      alula check-sim isaac-lab --python ~/env_isaaclab/bin/python
      alula check-sim isaac-gym --python ~/miniconda3/envs/rlgpu/bin/python
    """

    back_end: Annotated[BackEnd, tyro.conf.Positional, tyro.conf.arg(metavar="BACK-END")]
    """multirotor (alula's own kernels), mujoco, mujoco-warp, isaac-lab or isaac-gym."""
    robot: Annotated[str | None, tyro.conf.arg(metavar="ROBOT")] = None
    """Robot (name or file). Default: crazyflie-l2f for multirotor, else panda."""
    task: Annotated[_Task | None, _one_of("TASK", get_args(_Task))] = None
    """Task of the robot. Default: hover for a multirotor, lift for panda, else reach."""
    python: _File = None
    """Interpreter that has Isaac. Default: this one."""
    device: Annotated[str, tyro.conf.arg(metavar="DEVICE")] = "cuda:0"
    """Where Isaac or MuJoCo Warp simulates: cuda:0, another GPU, or cpu."""
    out: _Dir = None
    """Folder for the report; must be new or empty. Default: runs/check-BACK-END-TIME."""
    overwrite: bool = False
    """Replace the folder of an earlier check."""


@dataclass(frozen=True, kw_only=True)
class Presets(Common):
    """List the named experiments."""


@dataclass(frozen=True, kw_only=True)
class Robots(Common):
    """List the robots that ship with alula; a robot is a TOML file, so your own work as well."""


Command = (
    Fly
    | Train
    | Sweep
    | Evaluate
    | Identify
    | Export
    | Flightlog
    | Inspect
    | Bench
    | CheckSim
    | Presets
    | Robots
)
COMMANDS: dict[str, type[Command]] = {
    "fly": Fly,
    "train": Train,
    "sweep": Sweep,
    "evaluate": Evaluate,
    "identify": Identify,
    "export": Export,
    "flightlog": Flightlog,
    "inspect": Inspect,
    "bench": Bench,
    "check-sim": CheckSim,
    "presets": Presets,
    "robots": Robots,
}
