"""The tables of docs/safety.md, from the code: `python tests/deploy_ros2/safety_tables.py` writes them anew."""

import ast
import inspect
import re
from dataclasses import fields
from itertools import pairwise
from pathlib import Path

from alula.deploy_ros2 import safety_config
from alula.deploy_ros2.checks import CHECKS
from alula.deploy_ros2.safety_config import SafetyConfig

PAGE = Path(__file__).resolve().parents[2] / "docs" / "safety.md"
MARK = "<!-- {name}: from the code -->\n\n{table}\n<!-- end -->"


def check_table():
    """One row a check."""
    rows = [
        "| check | applies when | limit | reaction | for | a hold ends by itself |",
        "| --- " * 6 + "|",
    ]
    for c in CHECKS:
        limit = f"`{c.limit}`" if c.limit else ("1" if c.code == "joint_velocity" else "0")
        sign = "<" if c.below else ">"
        ends = ("yes" if c.recovers else "no") if c.reaction == 2 else ""
        reaction = "as asked" if c.code == "operator" else c.reaction.name
        kinds = " and ".join(c.kinds)
        rows.append(
            f"| `{c.code}` | {c.about} | {sign} {limit} [{c.unit}] | {reaction} | {kinds} | {ends} |"
        )
    return "\n".join(rows) + "\n"


def parameter_table():
    """One row a field of SafetyConfig, with the docstring under it."""
    rows = ["| parameter | meaning | default | unit | range |", "| --- " * 5 + "|"]
    about = _docstrings()
    for f in fields(SafetyConfig):
        m = f.metadata
        span = (
            f"{m['low']:g} to {m['high']:g}" + (", or inf: off" if "off" in m else "")
            if "low" in m
            else ""
        )
        default = f.default if isinstance(f.default, str) else _short(f.default)
        rows.append(f"| `{f.name}` | {about[f.name]} | {default} | {m.get('unit', '')} | {span} |")
    return "\n".join(rows) + "\n"


def page(text):
    """The page with both tables put in."""
    for name, table in (("checks", check_table()), ("parameters", parameter_table())):
        pattern = re.compile(rf"<!-- {name}: from the code -->.*?<!-- end -->", re.DOTALL)
        text = pattern.sub(lambda _, n=name, t=table: MARK.format(name=n, table=t), text)
    return text


def _docstrings():
    tree = ast.parse(inspect.getsource(safety_config))
    body = next(n.body for n in tree.body if isinstance(n, ast.ClassDef))
    return {
        a.target.id: b.value.value
        for a, b in pairwise(body)
        if isinstance(a, ast.AnnAssign) and isinstance(b, ast.Expr)
    }


def _short(value):
    if isinstance(value, tuple):
        return "(" + ", ".join(f"{v:g}" for v in value) + ")"
    return f"{value:g}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
