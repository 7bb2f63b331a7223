"""The tables of docs/faults.md: `python tests/deploy_ros2/ros/fault_table.py RESULTS.jsonl` measures what is missing in
RESULTS.jsonl, one line a fault, and writes the tables anew. Takes half an hour; on an otherwise idle computer.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from runpy import run_path
from statistics import median

from alula.presets import get_preset
from alula.training.run import train

HERE = Path(__file__).parent
PAGE = HERE.parents[2] / "docs" / "faults.md"
FAULTS = run_path(str(HERE / "faults.py"))["FAULTS"]
REPETITIONS = 5
ENDS = {
    "hover": "flies on",
    "landed": "landed",
    "off": "motors off, on the ground",
    "gone": "nothing is sent",
}
NOISE = {"policy_held", "deadline", "deadlines", "stall", "policy_lost", "position_lost"}
"""Checks that go with many faults and say little about them."""


def measure(policy: Path, name: str) -> list[dict]:
    """Outcomes of one fault."""
    request = json.dumps(
        ["fault", {"policy": str(policy), "name": name, "repetitions": REPETITIONS}]
    )
    command = [sys.executable, str(HERE / "scenarios.py"), request]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr[-4000:])
    return json.loads(done.stdout.splitlines()[-1])


def row(fault, outcomes: list[dict]) -> str:
    """One line of the table."""
    reactions = [1e3 * o["reaction"] for o in outcomes if o["reaction"] is not None]
    shown = "flies on" if not reactions else f"{median(reactions):.0f} | {max(reactions):.0f}"
    ends = sorted({ENDS.get(o["end"], o["end"]) for o in outcomes})
    falls = [o["touchdown"] for o in outcomes if o["end"] == "landed" and o["touchdown"]]
    landing = f" at {max(falls):.2f} m/s at most" if falls else ""
    codes = sorted(set.intersection(*(set(o["codes"]) for o in outcomes)) - NOISE)
    codes += [c for c in fault.counts if c not in codes]
    reported = ", ".join(f"`{c}`" for c in codes)
    if not reactions:
        shown = "— | —"
    return f"| {fault.name} | {reported} | {shown} | {states(outcomes)} | {' or '.join(ends)}{landing} |"


def states(outcomes: list[dict]) -> str:
    """Who was in command, with the median times [s], of the course that most repetitions took."""
    courses = [tuple(n for n, _ in o["states"]) for o in outcomes]
    course = max(sorted(set(courses)), key=courses.count)
    times = [
        [t for _, t in o["states"]] for o, c in zip(outcomes, courses, strict=True) if c == course
    ]
    parts = [
        f"{name.upper()} {median(column):.2f}"
        for name, column in zip(course, zip(*times, strict=True), strict=True)
    ]
    others = len(courses) - courses.count(course)
    text = ", ".join(parts) or "POLICY"
    return text + (f" ({others} of {len(courses)} otherwise)" if others else "")


def table(group: str, results: dict[str, list[dict]]) -> str:
    """One group of faults."""
    head = "| fault | reported | median [ms] | worst [ms] | in command, from [s] | end |"
    rows = [row(f, results[f.name]) for f in FAULTS if f.group == group and f.name in results]
    return "\n".join([head, "| --- " * 6 + "|", *rows])


def main() -> None:
    """Measure and write."""
    log = Path(sys.argv[1])
    lines = log.read_text().splitlines() if log.exists() else []
    results = {name: outcomes for name, outcomes in map(json.loads, lines)}
    with tempfile.TemporaryDirectory() as folder, log.open("a") as out:
        missing = [f for f in FAULTS if f.name not in results]
        if missing:
            train(get_preset("crazyflie-track"), out=Path(folder))
        for fault in missing:
            results[fault.name] = outcomes = measure(Path(folder) / "policy.onnx", fault.name)
            wrong = [w for o in outcomes for w in o["wrong"]]
            print(f"{fault.name}: {wrong or 'ok'}", flush=True)
            if not wrong:
                out.write(json.dumps([fault.name, outcomes]) + "\n")
                out.flush()
    bad = [n for n, outcomes in results.items() if any(o["wrong"] for o in outcomes)]
    if bad:
        sys.exit(f"not as they must be: {bad}; the page was not written")
    text = PAGE.read_text()
    for group in dict.fromkeys(f.group for f in FAULTS):
        mark = f"<!-- {group}: measured -->"
        new = f"{mark}\n\n{table(group, results)}\n\n<!-- end -->"
        text = re.sub(
            re.escape(mark) + r".*?<!-- end -->", lambda _, n=new: n, text, flags=re.DOTALL
        )
    PAGE.write_text(text)


if __name__ == "__main__":
    main()
