"""docs/safety.md says what the code does."""

from pathlib import Path
from runpy import run_path

tables = run_path(str(Path(__file__).parent / "safety_tables.py"))


def test_the_tables_are_those_of_the_code():
    text = tables["PAGE"].read_text()
    assert text.count("from the code") == 2
    assert tables["page"](text) == text, "run python tests/deploy_ros2/safety_tables.py"
