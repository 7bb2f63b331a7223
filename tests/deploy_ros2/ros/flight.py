"""A flight over the wire that a fault befalls, as often as asked; what became of it."""

import itertools
import re
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from runpy import run_path

import numpy as np

wire = run_path(str(Path(__file__).with_name("wire.py")))
Process, Wire, Record, until = wire["Process"], wire["Wire"], wire["Record"], wire["until"]

ROBOT = "crazyflie"
HEIGHT = 0.5
"""Where the vehicle hovers: low, so that landings do not take long [m]."""
HOME = np.array([0.0, 0.0, HEIGHT])
SETTLED = 0.7
"""Time in the air before the fault [s]."""
PARAMETERS = {
    "safety.hold_limit": 4.0,
    "safety.heartbeat_lost": 2.0,
    "safety.reference_lost": 2.0,
    # A busy computer may cause holds of its own.
    "safety.recoveries": 1000.0,
    "diagnostics_period": 0.1,
}
"""What differs from the defaults: less waiting."""
MOTOR_TIMEOUT = 0.2
"""The simulated robot's time-out [s]."""
BUSY = {"deadline", "deadlines", "stall", "attitude_stale", "position_stale", "policy_held", "policy_lost", "policy_blind", "clock_jump"}  # fmt: skip
"""Checks that a busy computer may cause in any flight."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What the wire showed after a fault; times from the fault on [s]."""

    states: tuple[tuple[str, float], ...]
    """Changes of who is in command, as told by the diagnostics."""
    codes: frozenset[str]
    """Checks that applied in a diagnostic message."""
    counts: Mapping[str, int]
    """How often each check began to apply, since take-off."""
    last_command: float
    """Last command."""
    off: float | None
    """When the robot's time-out turned its motors off."""
    touchdown: float | None
    """Fastest touch-down [m/s]."""
    slew: float
    """Largest change between two commands in a row after the fault, the stop of the motors apart [-]."""
    farthest: float
    """Largest distance from where it hovered [m]."""
    end: str
    """hover, hold, landed, off (motors, and on the ground), gone (the robot's process), or what it was instead."""

    @property
    def names(self) -> tuple[str, ...]:
        """Who was in command, one after another."""
        return tuple(name for name, _ in self.states)


class Flight:
    """sim_node and policy_node as processes, and a wire between them; `with` ends them all."""

    def __init__(
        self,
        policy: Path,
        folder: Path,
        *,
        parameters: Mapping[str, object] | None = None,
        sim: Mapping[str, object] | None = None,
        reference: Mapping[str, object] | None = None,
        relay: bool = True,
    ) -> None:
        self._folder = folder
        self.domain = wire["free_domain"]()
        self._parameters = {"policy": str(policy), "robot": ROBOT, **PARAMETERS, **(parameters or {})}  # fmt: skip
        self._sim = {"robot": ROBOT, "start": (0.0, 0.0, HEIGHT), "command_timeout": MOTOR_TIMEOUT, **(sim or {})}  # fmt: skip
        self._reference, self._relay = reference, relay
        self._processes: dict[str, Process] = {}
        self._logs: list[Path] = []
        self._configured = False
        self.wire = Wire(self.domain, relay=relay)

    def __enter__(self) -> "Flight":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        for process in self._processes.values():
            process.close()
        self.wire.close()
        if kind is not None:
            print(self.logs(), file=sys.stderr)

    def logs(self) -> str:
        """The end of what every process has logged."""
        return "\n".join(f"--- {log.name}\n{log.read_text()[-6000:]}" for log in self._logs)

    @property
    def record(self) -> "Record":
        """What went over the wire since take-off."""
        return self.wire.record

    def process(self, name: str) -> "Process":
        """The running process of a node; started where there is none."""
        old = self._processes.get(name)
        if old is None or not old.alive:
            parameters = {
                "sim_node": self._sim,
                "policy_node": self._parameters,
                "reference_node": self._reference,
            }[name]
            remaps = {"odometry": "odometry_true"} if name == "sim_node" and self._relay else {}
            new = Process(name, self.domain, self._folder, parameters=parameters, remaps=remaps)
            self._processes[name] = new
            self._logs.append(new.log)
            if name == "policy_node":
                self._configured = False
        return self._processes[name]

    def signal(self, name: str, number: int) -> float:
        """Send a node a signal; returns when [s]."""
        return self.process(name).signal(number)

    def begin(self, *, reference: bool = True) -> None:
        """Take off anew, and fly until the policy is calmly in command; with `reference`, its node runs before."""
        w = self.wire
        self.process("sim_node")
        self.process("policy_node")
        if not self._configured and not w.transition("configure"):
            raise RuntimeError("policy_node was not configured")
        w.tamper, w.heartbeat = None, True
        w.charge(0.9)
        if reference and self._reference is not None:
            self.process("reference_node")
            w.record = Record()
            until(lambda: bool(w.record.trajectories), "a reference")
        # On a busy computer a flight may end before it has begun.
        until(self._take_off, "calm flight", 3 * wire["PATIENCE"])

    def _take_off(self) -> bool:
        w = self.wire
        if self._configured:
            w.transition("deactivate")
        self._configured = True
        w.trigger("sim_node/reset")
        w.record = Record()
        until(lambda: len(w.record.odometry) > 20, "odometry")
        w.record = Record()
        until(lambda: w.transition("activate"), "the policy in command", pause=0.1)
        begun = time.time()
        calm = lambda: time.time() - begun > SETTLED and self.state() == "policy"  # noqa: E731
        lost = lambda: self.state() in ("land", "release", "stop")  # noqa: E731
        until(lambda: calm() or lost(), "calm flight")
        return not lost()

    def state(self) -> str:
        """Who is in command, as last told."""
        return self.record.policy[-1].state if self.record.policy else ""

    def end(self) -> str:
        """What has become of the flight so far."""
        r, sim = self.record, self._processes["sim_node"]
        if not sim.alive:
            return "gone"
        if r.sim and r.sim[-1].values["motors"] == "off":
            return "off" if r.sim[-1].text.endswith("on the ground") else "falling"
        last = [c.value for c in r.commands[-5:]]
        still = all(not v.any() for v in last)
        if r.sim and r.sim[-1].state == "on the ground" and still:
            return "landed"
        places = np.array([o.position_w for o in r.odometry[-20:]])
        # The recorder sees the true odometry, before it is tampered with.
        calm = float(np.ptp(places, axis=0).max()) < 0.1
        if self.state() == "policy" and calm and abs(places[-1, 2] - HEIGHT) < 0.3:
            return "hover"
        return "hold" if self.state() == "hold" and calm else "flying"

    def watch(
        self, began: float, wanted: str, states: set[str], least: float, most: float
    ) -> Outcome:
        """Look until the wanted end, and until these were in command, between so long after the fault began [s]."""

        def over() -> bool:
            passed = time.time() - began
            told = {p.state for p in self.record.policy if p.at >= began}
            ended = states <= told and self.end() in wanted.split("|")
            return passed > most or (passed > least and ended)

        until(over, "the end", most + 10.0)
        r, end = self.record, self.end()
        reports = [p for p in r.policy if p.at >= began]
        changes: list[tuple[str, float]] = []
        state = next((p.state for p in reversed(r.policy) if p.at < began), "")
        for p in reports:
            if p.state != state:
                state = p.state
                changes.append((state, p.at - began))
        off = [s.at - began for s in r.sim if s.at >= began and s.values["motors"] == "off"]
        counts = {k[6:]: int(v) for k, v in r.policy[-1].values.items() if k.startswith("count ")}
        return Outcome(
            states=tuple(changes),
            codes=frozenset().union(*(p.codes for p in reports)) if reports else frozenset(),
            counts=counts,
            last_command=r.commands[-1].at - began,
            off=min(off, default=None),
            touchdown=self.touchdown(began),
            farthest=max(
                float(np.linalg.norm(o.position_w - HOME))
                for o in r.odometry
                if o.at >= began - 0.1
            ),
            slew=_slew([c.value for c in r.commands if c.at >= began]),
            end=end,
        )

    def touchdown(self, began: float) -> float | None:
        """Fastest touch-down since a time [m/s]."""
        lines = re.findall(r"\[(\d+\.\d+)\] \[sim_node\]: \w+ at ([\d.]+) m/s", self._processes["sim_node"].text)  # fmt: skip
        return max((float(v) for t, v in lines if float(t) >= began), default=None)


def _slew(commands: list[np.ndarray]) -> float:
    """Largest change of a throttle between commands in a row, none of which stops the motors."""
    pairs = itertools.pairwise(commands)
    return max((float(np.abs(b - a).max()) for a, b in pairs if a.any() and b.any()), default=0.0)


def unsafe(record: "Record", rotors: int = 4) -> list[str]:
    """What nobody may ever send: wrong sizes, NaN, throttles beyond [0, 1]."""
    found = []
    for c in record.commands:
        good = c.value.shape == (rotors,) and np.isfinite(c.value).all()
        if not (good and c.value.min() >= 0.0 and c.value.max() <= 1.0):
            found.append(f"{c.at:.3f}: {c.value.tolist()} for {c.label!r} was sent")
    return found
