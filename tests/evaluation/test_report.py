"""The report of a hand-designed policy: complete, self-contained, and safe with a stranger's text."""

import re
import struct
import zlib
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from alula.errors import AlulaError
from alula.evaluation.evaluate import evaluate
from alula.evaluation.report import Check, write_report
from alula.evaluation.study import STEP_M, Study, distance_apart, run_study
from alula.policies.onnx_file import Policy

NASTY = '<script>alert("x")</script>&'


@pytest.fixture(scope="module")
def study(hover_policy: Policy) -> Study:
    runs = (
        evaluate(hover_policy, episodes=24, steps=150),
        evaluate(hover_policy, sim="mujoco", episodes=8, steps=150),
    )
    return run_study(hover_policy, runs, episodes=8)


def png(path: Path) -> Path:
    """A picture of one grey pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    data = zlib.compress(b"\x00\x80")
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )
    return path


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict]] = []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in ("meta", "br", "img", "path", "rect", "circle", "polyline", "polygon"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("path", "rect", "circle", "polyline", "polygon"):
            assert self.open.pop() == tag


def test_report_is_whole_and_self_contained(
    hover_policy: Policy, study: Study, tmp_path: Path
) -> None:
    log = tmp_path / "metrics.csv"
    log.write_text("update,cost,position_error\n1,0.5,0.3\n2,0.25,0.2\n")
    path = write_report(
        tmp_path / "report.html",
        policy=hover_policy,
        study=study,
        checks=[Check(text="C agrees", passed=True), Check(text=NASTY, passed=False)],
        training_log=log,
        images=[(NASTY, png(tmp_path / "plot.png"))],
        facts={NASTY: NASTY},
    )
    text = path.read_text()
    parser = _Tags()
    parser.feed(text)
    assert parser.open == []
    tags = [tag for tag, _ in parser.seen]
    # nothing runs, nothing is fetched
    assert not {"script", "link", "iframe", "object", "base", "form"} & set(tags)
    for _, attributes in parser.seen:
        for name in ("src", "href", "action", "data"):
            assert (attributes.get(name) or "data:image/png;base64,").startswith("data:image/png")
    assert not re.search(r"url\(|@import|https?://", text)
    assert "default-src 'none'" in text
    assert "width=device-width" in text
    assert "1 of 2 checks failed." in text
    for heading in (
        "The figures", "Trajectories", "Step response", "Robustness", "Training", "Identification",
        "What the policy sees", "Where it comes from", "The robot",
    ):  # fmt: skip
        assert f"<h2>{heading}" in text
    # 4 flights, 3 steps, 5 sweeps of 2, 2 training curves
    assert text.count('<svg class="chart"') == 19
    assert hover_policy.sha256 in text
    assert study.robot.sources["mass"] in text
    assert len(text) < 1_000_000


def test_text_from_a_policy_file_is_escaped(
    hover_policy: Policy, study: Study, tmp_path: Path
) -> None:
    contract = hover_policy.contract
    entry = replace(contract.observation[0], name=NASTY, unit=NASTY, frame=NASTY)
    nasty = replace(
        contract,
        observation=(entry, *contract.observation[1:]),
        training={**contract.training, "preset": NASTY, NASTY: NASTY},
        robot=NASTY,
        task=NASTY,
        robot_hash=NASTY,
    )
    robot = replace(study.robot, name=NASTY, sources={"mass": NASTY})
    path = write_report(
        tmp_path / "r.html",
        policy=replace(hover_policy, contract=nasty),
        study=replace(study, robot=robot),
    )
    text = path.read_text()
    assert "<script" not in text
    assert text.count("&lt;script&gt;") >= 8


def test_nothing_is_left_behind_by_bad_input(
    hover_policy: Policy, study: Study, tmp_path: Path
) -> None:
    fake = tmp_path / "fake.png"
    fake.write_bytes(b"GIF89a")
    bad = tmp_path / "bad.csv"
    bad.write_text("update,cost\n1,much\n")
    out = tmp_path / "out" / "report.html"
    for log, image, match in (
        (None, fake, "not a PNG"),
        (None, tmp_path / "none.png", "cannot be read"),
        (bad, None, "not a table of numbers"),
        (tmp_path / "none.csv", None, "cannot be read"),
    ):
        with pytest.raises(AlulaError, match=match):
            write_report(
                out,
                policy=hover_policy,
                study=study,
                training_log=log,
                images=[("a", image)] if image else (),
            )
    assert not out.parent.exists()


def test_an_existing_report_is_kept(hover_policy: Policy, study: Study, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("mine")
    with pytest.raises(AlulaError):
        write_report(path, policy=hover_policy, study=study)
    assert path.read_text() == "mine"


def test_a_policy_that_never_survives_still_gets_its_report(
    hover_policy: Policy, study: Study, tmp_path: Path
) -> None:
    runs = []
    for evaluation, flight in study.evaluations:
        n = flight.position_error.shape[1]
        dead = replace(
            flight, failed_at=np.zeros(n, int), failure=np.ones(n, int),
            position_error=np.full_like(flight.position_error, np.nan),
        )  # fmt: skip
        metrics = replace(
            evaluation.metrics, survived=0, success=0.0, success_interval=(0.0, 0.1),
            hover_error_m=None, hover_error_interval_m=None, hover_error_p95_m=None,
            hover_error_p95_interval_m=None, tracking_rmse_m=None, tracking_rmse_interval_m=None,
        )  # fmt: skip
        runs.append((replace(evaluation, metrics=metrics), dead))
    sweeps = tuple(
        replace(s, metrics=tuple(e.metrics for e, _ in (runs * 3)[: len(s.values)]))
        for s in study.sweeps
    )
    dead_study = replace(study, evaluations=tuple(runs), sweeps=sweeps)
    path = write_report(tmp_path / "r.html", policy=hover_policy, study=dead_study)
    assert "0 of 24 flights stayed up" in path.read_text()


def test_the_step_reaches_its_set_point_in_both_simulators(study: Study) -> None:
    for flight in study.steps.values():
        x = flight.trace.position_w[:, 0, 0]
        assert abs(x[0]) < 1e-3
        assert x.max() > 0.6 * STEP_M
    # same start, same policy, no noise: measured 0.1 mm
    assert 0.0 < distance_apart(study.steps).max() < 2e-3


def test_sweeps_vary_what_they_say(study: Study) -> None:
    sweeps = {s.name: s for s in study.sweeps}
    assert set(sweeps) == {"mass", "thrust", "rotor lag", "action delay", "gust force"}
    assert sweeps["action delay"].values == (0.0, 10.0, 20.0, 30.0)
    assert sweeps["mass"].trained == (1.0, 1.0)
    for sweep in study.sweeps:
        assert len(sweep.metrics) == len(sweep.values)
        assert all(m.episodes == 8 for m in sweep.metrics)
    # too little thrust to carry the weight: 0.6 of 1.82 weights is 1.09, and hover needs full throttle
    thrust = sweeps["thrust"].metrics
    assert thrust[0].success < thrust[2].success
    # this feedback has no margin for delay
    assert sweeps["action delay"].metrics[3].success < sweeps["action delay"].metrics[0].success
    # the nominal point is the same flight in every sweep that scales a parameter
    nominal = {s.name: dict(zip(s.values, s.metrics, strict=True))[1.0] for s in study.sweeps[:3]}
    assert nominal["mass"] == nominal["thrust"] == nominal["rotor lag"]
