"""`alula flightlog` as a user meets it."""

import json
import re

from alula.cli import main


def test_the_command_prints_json_and_writes_the_page(flight_bag, policy_path, tmp_path, capsys):
    out = tmp_path / "report"
    asked = [
        "flightlog",
        str(flight_bag),
        "--policy",
        str(policy_path),
        "--out",
        str(out),
        "--json",
    ]
    assert main(asked) == 0
    said = capsys.readouterr()
    data = json.loads(said.out)
    assert data["timing"]["missed"] == 3
    assert data["agreement"]["agrees"]
    assert data["robot"] == "crazyflie-l2f"
    assert "deadlines   3 missed at 10 ms (the policy's)" in said.err
    assert json.loads((out / "flightlog.json").read_text())["counters"] == data["counters"]
    page = (out / "flightlog.html").read_text()
    assert page.count("<svg class=") == 3 + 2 + 4 + 4
    assert "low battery" in page
    assert not re.search(r"nan|inf\b", page[page.index("<body") :].replace("information", ""))
    # an earlier report is not replaced unasked
    assert main(asked) == 2
    assert "allowed: a new name, or overwrite" in capsys.readouterr().err
    assert main([*asked, "--overwrite"]) == 0


def test_the_window_and_bad_input(flight_bag, tmp_path, capsys):
    assert main(["flightlog", str(flight_bag), "--from", "1", "--to", "2", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert 0.95 < data["flown_s"] <= 1.0
    assert "no sim-to-real gap: the robot is not known; give it with --robot" in data["gaps"]
    for asked, words in (
        (["--from", "90"], "allowed: from < to, the log runs from"),
        (["--topics", "odometry"], "column 'odometry'"),
        (["--robot", "none"], "unknown robot 'none'"),
    ):
        assert main(["flightlog", str(flight_bag), *asked]) == 2
        assert words in capsys.readouterr().err


def test_a_log_cannot_write_into_the_page(bag_writer, flight_maker, policy, robot, tmp_path):
    from alula.flightlog.analyse import analyse
    from alula.flightlog.page import write_page

    def change(bag):
        bag.status(0.1, 2, "<script>alert(1)</script>")

    bag = bag_writer(tmp_path / "bag", flight_maker(policy, robot, steps=100), change=change)
    page = write_page(tmp_path / "out", analyse(bag, policy=policy, robot=robot)).read_text()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
