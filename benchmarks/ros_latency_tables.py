"""What benchmarks/ros_latency.py has measured, as Markdown."""

from dataclasses import dataclass

import numpy as np
from ros_latency_nodes import DISCOVERY, PARTS, STAGES

ENGINES = ("onnx", "c")
"""Of policy_node."""
WHO = ("echo", *ENGINES, *(f"{engine} awake" for engine in ENGINES))
"""The bare node; policy_node with either engine; the same with a look every millisecond."""


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One process measured once."""

    who: str
    """echo, or the engine of policy_node, and whether it is kept awake."""
    rate: int
    """Odometry messages a second [Hz]."""
    load: bool
    """Whether a process per core was busy with nothing."""
    latency_ms: list[float]
    """Odometry published to command received [ms]; one that came after the next odometry counts from the oldest
    without answer."""
    sent: int
    """Odometry messages."""
    missed: int
    """Of them without a command before the next one was sent."""
    cpu_us: float
    """Processor time of the process for a message, all threads [us]."""
    start_s: float
    """Start of the process to its first answer [s]."""
    rss_mb: float
    """Resident memory at the end [MB]."""
    left_policy: bool
    """Whether the safety layer took the command from the policy."""


def percentiles(turns: list[Turn]) -> tuple[float, float, float]:
    """Median, 99th percentile and largest latency [ms] of some turns together."""
    every = np.concatenate([t.latency_ms for t in turns])
    return float(np.median(every)), float(np.percentile(every, 99)), float(every.max())


def added(turns: list[Turn], echo: list[Turn], q: float) -> str:
    """A percentile above the echo's of the same round [ms]: median of the rounds, and their range."""
    found = [
        np.percentile(a.latency_ms, q) - np.percentile(b.latency_ms, q)
        for a, b in zip(turns, echo, strict=True)
    ]
    return f"{np.median(found):+.2f} ({min(found):+.2f} to {max(found):+.2f})"


def latency_table(turns: list[Turn]) -> list[str]:
    """One line for each rate, load and process."""
    lines = [
        "| Hz | load | what | median [ms] | p99 [ms] | largest [ms] | missed | added median [ms] | added p99 [ms] | processor [us] |",
        "| --: | --- | --- | --: | --: | --: | --: | --: | --: | --: |",
    ]
    for rate in sorted({t.rate for t in turns}):
        for load in (False, True):
            here = [t for t in turns if (t.rate, t.load) == (rate, load)]
            echo = [t for t in here if t.who == "echo"]
            for who in WHO:
                mine = [t for t in here if t.who == who]
                middle, late, worst = percentiles(mine)
                more = "|  |  |" if who == "echo" else f"| {added(mine, echo, 50)} | {added(mine, echo, 99)} |"  # fmt: skip
                held = ", policy left" if any(t.left_policy for t in mine) else ""
                lines.append(
                    f"| {rate} | {'every core busy' if load else 'idle'} | {who} | {middle:.2f} | {late:.2f} | {worst:.1f} "
                    f"| {sum(t.missed for t in mine)} of {sum(t.sent for t in mine)}{held} {more} "
                    f"{np.median([t.cpu_us for t in mine]):.0f} |"
                )
    return lines


def start_table(starts: dict[str, list[dict[str, float]]]) -> list[str]:
    """Each stage of the start by engine."""
    lines = [f"| stage [s] | {' | '.join(starts)} |", f"| --- |{' --: |' * len(starts)}"]
    for stage in STAGES:
        cells = [f"{np.median([s[stage] for s in many]):.2f}" for many in starts.values()]
        lines.append(f"| {stage} | {' | '.join(cells)} |")
    whole = [[sum(s.values()) for s in many] for many in starts.values()]
    own = [[sum(s.values()) - s[DISCOVERY] for s in many] for many in starts.values()]
    for name, sums in (("**start to active**", whole), ("the same without the wait for odometry", own)):  # fmt: skip
        cells = [f"{np.median(x):.2f} ({min(x):.2f} to {max(x):.2f})" for x in sums]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def render(results: dict, turns: list[Turn], flight: Turn) -> str:
    """The whole page."""
    parts = results["parts"]
    middle, late, worst = percentiles([flight])
    lines = [
        "# policy_node: latency, start, memory",
        "",
        f"{results['machine']}; {results['rmw']}; a random policy 146-64-64-4 for `{results['robot']}` at the rate of the odometry.",
        "Made by `python benchmarks/ros_latency.py --write`.",
        "",
        "## From odometry to command",
        "",
        "nav_msgs/Odometry published to command received, both in the process that plays the robot, by one monotonic clock.",
        "`echo` is a bare rclpy node that answers at once; `onnx` and `c` are policy_node with either engine. Each line is",
        f"{results['rounds']} rounds of {results['seconds']:g} s in which the three take turns, a fresh process each time; idle first, then with a",
        "process on every core that does nothing as fast as it can. `missed`: odometry without a command before the next one.",
        "`added` is the difference to the echo of the same round: median of the rounds, and their range. `processor` is the time",
        "that all threads of the process use for a message.",
        "",
        *latency_table(turns),
        "",
        f"A flight of {flight.sent / flight.rate:.0f} s at {flight.rate} Hz ({flight.who}, idle): {flight.missed} missed deadlines of {flight.sent}, median "
        f"{middle:.2f} ms, p99 {late:.2f} ms, largest {worst:.2f} ms; {flight.rss_mb:.0f} MB resident at its end.",
        "",
        "## Where the time goes",
        "",
        "Median time inside the process from the callback of odometry to the end of the cycle [us]; `publish` includes what the",
        "middleware does. In C, `network` is one call with schedule and histories.",
        "",
        f"| Hz | engine | {' | '.join(PARTS)} |",
        f"| --: | --- |{' --: |' * len(PARTS)}",
        *(
            f"| {p['rate']} | {p['engine']} | {' | '.join(f'{p[x]:.0f}' for x in PARTS)} |"
            for p in parts
        ),
        "",
        "## Start",
        "",
        f"Median of {len(results['starts']['c'])} starts, compiled modules at hand. `{STAGES[0]}` holds two starts of the interpreter where rclpy comes from",
        "wheels, whose .pth executes Python once more to set the path of libraries; configure holds the self-test and, in C, the",
        f"compiler. `{DISCOVERY}` is the discovery of the middleware between this process and the robot's.",
        "",
        *start_table(results["starts"]),
        "",
    ]
    return "\n".join(lines)
