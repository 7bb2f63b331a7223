"""Processor in the loop: the exported C, cross-compiled, flies in the simulators (docs/processor-in-the-loop.md)."""

import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from alula.build import SimName
from alula.errors import AlulaError
from alula.evaluation.evaluate import Evaluation, evaluate
from alula.firmware_export.emulator import (
    HELD,
    Counts,
    Emulator,
    build_firmware,
    golden_max_abs_diff,
    instructions,
)
from alula.firmware_export.qemu import LinkName
from alula.firmware_export.toolchain import Target, TargetName, get_target, require
from alula.policies.contract import ACTION_HISTORY, Contract
from alula.policies.onnx_file import Policy
from alula.robots.multirotor import Multirotor

EPISODES = 100
"""Episodes in each simulator."""
Progress = Callable[[SimName, int], None]
"""Told the simulator and how many steps of the flight in it are done."""


@dataclass(frozen=True, kw_only=True)
class PilFlight:
    """The firmware's flight in one simulator beside that of the ONNX policy: same seed, same episodes."""

    firmware: Evaluation
    """How the firmware flew."""
    onnx: Evaluation
    """How the policy file flew."""
    max_abs_diff: float
    """Largest difference of an action from ONNX Runtime's for the very same observations, until a vehicle
    failed [-]."""
    held_steps: int
    """Steps in which the firmware refused its input and held the action; 0 is right."""
    steps_per_s: float
    """Policy steps a second in the emulator, all vehicles together, the link included [1/s]."""

    @property
    def success_gap(self) -> float:
        """Difference of the share of episodes that succeed [-]."""
        return abs(self.firmware.metrics.success - self.onnx.metrics.success)

    @property
    def error_gap_m(self) -> float:
        """Largest difference of mean error and tracking error [m]; NaN where nothing survived."""
        flown, wanted = self.firmware.metrics, self.onnx.metrics
        pairs = [(flown.hover_error_m, wanted.hover_error_m)]
        if wanted.tracking_rmse_m is not None:
            pairs.append((flown.tracking_rmse_m, wanted.tracking_rmse_m))
        gaps = [float("nan") if a is None or b is None else abs(a - b) for a, b in pairs]
        return float(np.max(gaps))


@dataclass(frozen=True, kw_only=True)
class Pil:
    """All that was found out about a policy on a processor."""

    target: TargetName
    """The processor."""
    golden_max_abs_diff: float
    """Largest difference over all golden sequences of the policy file, sent over the serial port [-]."""
    self_test_max_abs_diff: float
    """The same over those inside the firmware, by its own account [-]."""
    instructions: Counts
    """Instructions of the library's functions."""
    multirotor: PilFlight
    """The flight in alula's physics."""
    mujoco: PilFlight
    """The flight in MuJoCo."""

    def to_json(self) -> dict[str, Any]:
        """Flat JSON values; plain `pil_` is the flight in alula's physics."""
        ours, mujoco = self.multirotor, self.mujoco
        # unlike max, np.maximum hands on a NaN
        golden = np.maximum(self.golden_max_abs_diff, self.self_test_max_abs_diff)
        return {
            "pil_target": self.target,
            "pil_episodes": ours.firmware.metrics.episodes,
            "pil_success": ours.firmware.metrics.success,
            "pil_hover_error_m": ours.firmware.metrics.hover_error_m,
            "pil_tracking_rmse_m": ours.firmware.metrics.tracking_rmse_m,
            "pil_success_gap": ours.success_gap,
            "pil_error_gap_m": ours.error_gap_m,
            "pil_mujoco_success": mujoco.firmware.metrics.success,
            "pil_mujoco_hover_error_m": mujoco.firmware.metrics.hover_error_m,
            "pil_mujoco_tracking_rmse_m": mujoco.firmware.metrics.tracking_rmse_m,
            "pil_mujoco_success_gap": mujoco.success_gap,
            "pil_mujoco_error_gap_m": mujoco.error_gap_m,
            "pil_held_steps": ours.held_steps + mujoco.held_steps,
            "pil_max_abs_diff": float(golden),
            "pil_flight_max_abs_diff": float(np.maximum(ours.max_abs_diff, mujoco.max_abs_diff)),
            "pil_instructions_per_step": self.instructions.step,
            "pil_steps_per_s": ours.steps_per_s,
        }


def facts(data: dict[str, Any]) -> dict[str, str]:
    """Lines for the report, from `Pil.to_json`."""
    title = get_target(data["pil_target"]).title
    return {
        f"{title} firmware on the golden sequences": f"largest difference {data['pil_max_abs_diff']:.1e}",
        f"{title} firmware in flight": (
            f"success {data['pil_success']:.1%}, in MuJoCo {data['pil_mujoco_success']:.1%}; the error differs "
            f"from the policy file's by {1000.0 * data['pil_error_gap_m']:.2g} mm, in MuJoCo by "
            f"{1000.0 * data['pil_mujoco_error_gap_m']:.2g} mm"
        ),
        f"{title} instructions": f"{data['pil_instructions_per_step']:.0f} a step (not cycles)",
    }


class _Stopped(Exception):
    """The flight in the other simulator has ended with an error."""


def run_pil(
    policy: Policy,
    c_dir: str | Path,
    target: Target,
    *,
    robot: Multirotor | None = None,
    episodes: int = EPISODES,
    seed: int = 0,
    steps: int | None = None,
    name: str = "policy",
    progress: Progress | None = None,
) -> Pil:
    """Check an exported policy on a processor and fly it in both simulators, side by side.

    Args: as `fly_pil`.

    Raises:
        AlulaError: as `fly_pil`.
    """
    require(target)

    stop = threading.Event()

    def watched(sim: SimName, done: int) -> None:
        if stop.is_set():
            raise _Stopped
        if progress is not None:
            progress(sim, done)

    def flown(sim: SimName) -> PilFlight:
        try:
            return fly_pil(
                *(policy, c_dir, target),
                sim=sim,
                robot=robot,
                episodes=episodes,
                seed=seed,
                steps=steps,
                name=name,
                progress=watched,
            )
        except BaseException:
            # Whatever ends one flight, Ctrl-C too, ends the other
            stop.set()
            raise

    with tempfile.TemporaryDirectory(prefix="alula-firmware-") as scratch:
        image = Path(scratch) / "firmware.elf"
        build_firmware(c_dir, target, image, link="uart", vehicles=len(policy.golden.supplied))
        with Emulator(policy, image, target, link="uart") as emulator:
            golden = golden_max_abs_diff(policy, emulator)
            self_test, _ = emulator.self_test()
    counts = instructions(policy, c_dir, target)
    with ThreadPoolExecutor(1) as beside:
        mujoco = beside.submit(flown, "mujoco")
        try:
            multirotor = flown("multirotor")
        except _Stopped:
            mujoco.result()
            raise
        return Pil(
            target=target.name,
            golden_max_abs_diff=golden,
            self_test_max_abs_diff=self_test,
            instructions=counts,
            multirotor=multirotor,
            mujoco=mujoco.result(),
        )


def fly_pil(
    policy: Policy,
    c_dir: str | Path,
    target: Target,
    *,
    sim: SimName = "multirotor",
    robot: Multirotor | None = None,
    episodes: int = EPISODES,
    seed: int = 0,
    steps: int | None = None,
    name: str = "policy",
    link: LinkName = "semihosting",
    progress: Progress | None = None,
) -> PilFlight:
    """Fly an exported policy as firmware in the emulator, and its policy file with the same seed.

    The robot flies as its file says, with the disturbances and noise of the training.

    Args:
        policy: the policy that was exported.
        c_dir: folder with policy.c and policy.h.
        target: processor and board.
        sim: the simulator.
        robot: vehicle to fly; None takes the shipped robot the policy was made for.
        episodes: number of independent episodes, flown together: one policy each in the firmware.
        seed: evaluation seed.
        steps: episode length; None: as `evaluate`.
        name: what the evaluations call the policy.
        link: how observations travel to the firmware.
        progress: told about every step.

    Raises:
        AlulaError: tools are missing, the compiler refuses, the firmware is another policy's or does not
            answer; else as `evaluate`.
    """
    onnx, _ = evaluate(
        policy, name=name, sim=sim, robot=robot, episodes=episodes, seed=seed, steps=steps, traced=1
    )
    with tempfile.TemporaryDirectory(prefix="alula-firmware-") as scratch:
        image = Path(scratch) / "firmware.elf"
        build_firmware(c_dir, target, image, link=link, vehicles=episodes)
        with Emulator(policy, image, target, link=link) as emulator:
            act = FirmwareController(
                policy, emulator, None if progress is None else lambda done: progress(sim, done)
            )
            firmware, flight = evaluate(
                policy,
                name=name,
                sim=sim,
                robot=robot,
                episodes=episodes,
                seed=seed,
                steps=steps,
                traced=1,
                act=act,
            )
    # The last action of a failed episode is that of the step in which it failed.
    flying = np.arange(firmware.steps)[:, None] <= flight.failed_at
    difference = np.where(flying, np.array(act.difference), 0.0)
    held = (np.array(act.status) & HELD) != 0
    return PilFlight(
        firmware=firmware,
        onnx=onnx,
        max_abs_diff=float(difference.max()),
        held_steps=int((held & flying).sum()),
        steps_per_s=firmware.steps * episodes / act.seconds,
    )


class FirmwareController:
    """A policy's firmware as what `flight.fly` calls; keeps what ONNX Runtime says to the same."""

    def __init__(
        self, policy: Policy, emulator: Emulator, progress: Callable[[int], None] | None = None
    ) -> None:
        self._emulator = emulator
        self._present = present_samples(policy.contract)
        self._step_us = round(1e6 * policy.contract.control_dt)
        self._onnx = policy.controller(emulator.vehicles)
        self._progress = progress
        self.difference: list[np.ndarray] = []
        """Largest difference of each robot's actions, by step [(N,)]."""
        self.status: list[np.ndarray] = []
        """Status bits of each robot, by step [(N,)]."""
        self.seconds = 0.0
        """Time spent waiting for the firmware [s]."""

    def __call__(self, observation: np.ndarray) -> np.ndarray:
        """Actions [N, A] for the simulator's observation [N, O]; the firmware keeps its own histories.

        Raises:
            AlulaError: another number of robots than policies in the firmware, or no answer.
        """
        if len(observation) != self._emulator.vehicles:
            raise AlulaError(
                f"{len(observation)} robots; allowed: {self._emulator.vehicles}, one each policy"
            )
        t = len(self.difference)
        started = time.perf_counter()
        answer = self._emulator.step(observation[:, self._present], t * self._step_us, reset=t == 0)
        self.seconds += time.perf_counter() - started
        self.difference.append(np.abs(answer.action - self._onnx(observation)).max(axis=1))
        self.status.append(answer.status)
        if self._progress is not None:
            self._progress(t + 1)
        return answer.action


def present_samples(contract: Contract) -> np.ndarray:
    """Places in the network's input of the newest sample of every supplied entry (supplied_size,)."""
    places, stop = [], 0
    for entry in contract.observation:
        stop += entry.size * entry.history
        if entry.name != ACTION_HISTORY:
            places.append(np.arange(stop - entry.size, stop))
    return np.concatenate(places)
