"""A sweep: what it trains, what it chooses by, what it states, and that it goes on; without Ray."""

import csv
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest

from alula.errors import AlulaError
from alula.presets import get_preset
from alula.sweep import run as sweep_run
from alula.sweep import sweep as module
from alula.sweep.request import SweepConfig, default_sweep_folder
from alula.sweep.sweep import sweep
from alula.sweep.table import row_of, to_csv, to_text
from alula.training.run import CHECKPOINT, updates_saved
from alula.training.scale import require_ray

HOVER = get_preset("l2f-hover")
TINY = replace(
    HOVER,
    algo=replace(HOVER.algo, updates=12, n_envs=16, horizon_start=4, horizon_end=8, hidden=(8, 8), critic_hidden=(4, 4)),
)  # fmt: skip
GRID = SweepConfig(
    preset=TINY, robot=TINY.robot, seeds=2, settings={"algo.learning_rate": [1e-3, 1e-2]}, search="grid",
    tuning_seeds=2, population=4, generations=2, episodes=3, randomized=False,
)  # fmt: skip
POPULATION = replace(GRID, search="population", seeds=1, generations=3)


class RayError(Exception):
    """What a lost worker ends in."""


class RayTaskError(RayError):
    """What a worker's own error ends in."""


class InlineRay:
    """Does tasks in this process, in order."""

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

    def remote(self, **options):
        return lambda work: SimpleNamespace(remote=lambda run: partial(work, run))

    def wait(self, references, num_returns, timeout):
        return references[:num_returns], references[num_returns:]

    def get(self, reference):
        reference()


@pytest.fixture(autouse=True)
def _inline(monkeypatch):
    @contextmanager
    def session(**_: object) -> Iterator:
        yield InlineRay(), 1

    monkeypatch.setattr(module, "ray_session", session)
    monkeypatch.setattr(module, "require_ray", lambda: None)


@pytest.fixture
def trained(monkeypatch):
    """Records every training: folder, seed, first and last update."""
    runs: list[tuple[str, int, int, int]] = []
    real = sweep_run.train

    def train(preset, **options):
        begun = updates_saved(options["out"]) or 0
        folder = "/".join(options["out"].parts[-2:])
        runs.append((folder, options["seed"], begun, options["until"]))
        return real(preset, **options)

    monkeypatch.setattr(sweep_run, "train", train)
    return runs


def fake_success(monkeypatch, success) -> None:
    """Evaluations without flights: success as a function of the run."""

    def evaluate(run, policy, robot):
        rate = success(run)
        return {
            "task": "hover", "success": rate, "success_interval": [0.0, 1.0], "hover_error_m": 0.01,
            "seed": run.evaluation_seed, "episodes": run.episodes,
        }  # fmt: skip

    monkeypatch.setattr(sweep_run, "_evaluate", evaluate)


def test_seeds_alone_choose_nothing(tmp_path, trained) -> None:
    data, text = sweep(replace(GRID, settings={}), out=tmp_path / "s")
    assert [(seed, first, last) for _, seed, first, last in trained] == [
        (1000, 0, 12),
        (1001, 0, 12),
    ]
    assert data["chosen_by"] == []
    assert [r["evaluation_seed"] for r in data["runs"]] == [20000, 20001]
    assert data["table"][0]["seeds"] == 2
    assert "training 1000 to 1001, evaluation 20000 to 20001" in text
    assert "as in the preset" in text


def test_a_grid_is_chosen_by_seeds_that_the_table_has_not(tmp_path, trained, monkeypatch) -> None:
    fake_success(monkeypatch, lambda run: 0.5 + 10.0 * run.preset.algo.learning_rate)
    data, text = sweep(GRID, out=tmp_path / "s")
    assert [seed for _, seed, _, _ in trained] == [0, 1, 0, 1, 1000, 1001]
    assert [row["settings"] for row in data["chosen_by"]] == [
        {"algo.learning_rate": 1e-3},
        {"algo.learning_rate": 1e-2},
    ]
    assert [row["success"] for row in data["chosen_by"]] == pytest.approx([0.51, 0.6])
    assert data["schedules"] == [[{"algo.learning_rate": 1e-2}]]
    (row,) = data["table"]
    assert row["settings"] == {"algo.learning_rate": 1e-2}
    assert row["success"] == pytest.approx(0.6)
    used = data["seeds"]
    assert used["chosen_with"] == {"training": "0 to 1", "evaluation": "10000 to 10001"}
    assert used["stated_with"] == {"training": "1000 to 1001", "evaluation": "20000 to 20001"}
    assert "no results (training seeds 0 to 1, evaluation seeds 10000 to 10001)" in text
    config = json.loads((tmp_path / "s" / "test" / "000-seed-1000" / "config.json").read_text())
    assert config["preset"]["algo"]["learning_rate"] == 1e-2
    with (tmp_path / "s" / "table.csv").open() as file:
        (line,) = csv.DictReader(file)
    assert line["settings"] == "algo.learning_rate=0.01"
    assert float(line["success_interval_low"]) == pytest.approx(0.6)


def test_without_tuning_seeds_every_point_is_stated(tmp_path, trained) -> None:
    data, _ = sweep(replace(GRID, tuning_seeds=0, seeds=1), out=tmp_path / "s")
    assert [seed for _, seed, _, _ in trained] == [1000, 1000]
    assert [row["settings"]["algo.learning_rate"] for row in data["table"]] == [1e-3, 1e-2]


def test_a_population_follows_the_best_and_its_schedule_is_trained_anew(
    tmp_path, trained, monkeypatch
) -> None:
    # the larger the learning rate, the better
    fake_success(monkeypatch, lambda run: 0.5 + 10.0 * run.preset.algo.learning_rate)
    data, text = sweep(POPULATION, out=tmp_path / "s")
    # four members in three parts of four updates, then one fresh seed the same way
    assert [(first, last) for _, _, first, last in trained] == (
        [(0, 4)] * 4 + [(4, 8)] * 4 + [(8, 12)] * 4 + [(0, 4), (4, 8), (8, 12)]
    )  # fmt: skip
    assert [seed for _, seed, _, _ in trained] == [0, 1, 2, 3] * 3 + [1000] * 3
    (schedule,) = data["schedules"]
    rates = [s["algo.learning_rate"] for s in schedule]
    assert len(rates) == 3
    assert rates == sorted(rates)
    last = [r["settings"]["algo.learning_rate"] for r in data["chosen_by"]]
    assert max(last) == rates[-1]
    assert "schedule: " in text
    assert data["runs"][0]["evaluation_seed"] == 20000
    # what nothing goes on from is not kept
    assert not list((tmp_path / "s").rglob(CHECKPOINT))


def test_the_same_command_goes_on_where_it_was_stopped(tmp_path, trained, monkeypatch) -> None:
    population = replace(POPULATION, generations=2)
    whole, _ = sweep(population, out=tmp_path / "whole")
    real, count = sweep_run.train, iter(range(100))

    def stopped(preset, **options):
        if next(count) == 6:
            # before the end of a part, and then the machine is gone
            options["until"] -= 2
            real(preset, **options)
            raise KeyboardInterrupt
        return real(preset, **options)

    trained.clear()
    monkeypatch.setattr(sweep_run, "train", stopped)
    with pytest.raises(KeyboardInterrupt, match="the same command goes on"):
        sweep(population, out=tmp_path / "s")
    monkeypatch.setattr(sweep_run, "train", real)
    request = (tmp_path / "s" / "sweep.json").read_bytes()
    done = len(trained)
    data, _ = sweep(population, out=tmp_path / "s")
    # member 2 of the second generation had four of its six updates
    assert trained[done] == ("population/001-member-002", 2, 10, 12)
    assert len(trained) == 10 + 1
    assert (tmp_path / "s" / "sweep.json").read_bytes() == request
    # the short-horizon learner goes on bit for bit
    assert [r["success"] for r in data["runs"]] == [r["success"] for r in whole["runs"]]
    assert data["schedules"] == whole["schedules"]
    for path in (tmp_path / "whole").rglob("config.json"):
        other = tmp_path / "s" / path.relative_to(tmp_path / "whole")
        assert other.read_bytes() == path.read_bytes()
    trained.clear()
    assert sweep(population, out=tmp_path / "s")[0] == json.loads(json.dumps(data))
    assert trained == []


def test_a_trained_run_is_only_evaluated(tmp_path, trained, monkeypatch) -> None:
    real = sweep_run._evaluate

    def broken(*_: object):
        raise KeyboardInterrupt

    monkeypatch.setattr(sweep_run, "_evaluate", broken)
    with pytest.raises(KeyboardInterrupt):
        sweep(replace(GRID, settings={}, seeds=1), out=tmp_path / "s")
    monkeypatch.setattr(sweep_run, "_evaluate", real)
    sweep(replace(GRID, settings={}, seeds=1), out=tmp_path / "s")
    assert len(trained) == 1


def test_a_damaged_checkpoint_begins_anew(tmp_path, trained) -> None:
    config = replace(GRID, settings={}, seeds=1)
    folder = tmp_path / "s" / "test" / "000-seed-1000"
    sweep(config, out=tmp_path / "s")
    for path in (*folder.iterdir(), tmp_path / "s" / "result.json"):
        path.unlink()
    (folder / CHECKPOINT).write_bytes(b"half a che")
    sweep(config, out=tmp_path / "s")
    assert [first for _, _, first, _ in trained] == [0, 0]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"seeds": 3}, "seeds is 2 there and 3 here"),
        ({"episodes": 4}, "episodes is 3 there and 4 here"),
        ({"settings": {}}, "settings is"),
        ({"preset": replace(TINY, algo=replace(TINY.algo, gamma=0.9))}, "another preset"),
        ({"robot": "crazyflie"}, "another robot"),
    ],
)
def test_a_changed_request_is_refused(tmp_path, change, says) -> None:
    config = replace(GRID, settings={"algo.learning_rate": [1e-3]})
    sweep(config, out=tmp_path / "s")
    before = (tmp_path / "s" / "result.json").read_bytes()
    with pytest.raises(AlulaError) as e:
        sweep(replace(config, **change), out=tmp_path / "s")
    assert says in str(e.value)
    assert "another --out" in str(e.value)
    assert "\n" not in str(e.value)
    assert (tmp_path / "s" / "result.json").read_bytes() == before


def test_folders_of_others_are_refused(tmp_path) -> None:
    (tmp_path / "mine.txt").write_text("thesis")
    with pytest.raises(AlulaError, match=r"not a sweep's \(no sweep.json\)"):
        sweep(GRID, out=tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_one_sweep_at_a_time_in_a_folder(tmp_path, monkeypatch) -> None:
    config = replace(GRID, settings={}, seeds=1)

    def train(*_: object, **__: object):
        sweep(config, out=tmp_path / "s")

    monkeypatch.setattr(sweep_run, "train", train)
    data, _ = sweep(config, out=tmp_path / "s")
    assert "is in use" in data["runs"][0]["error"]


def test_a_training_that_fails_is_no_success(tmp_path, monkeypatch) -> None:
    real = sweep_run.train

    def train(preset, **options):
        if options["seed"] == 1001:
            raise AlulaError("the gradient has not been finite")
        return real(preset, **options)

    monkeypatch.setattr(sweep_run, "train", train)
    fake_success(monkeypatch, lambda run: 1.0)
    data, text = sweep(replace(GRID, settings={}), out=tmp_path / "s")
    assert data["table"][0]["success"] == 0.5
    assert data["table"][0]["failed"] == 1
    assert data["runs"][1]["error"] == "the gradient has not been finite"
    assert "failed" in text


def test_nothing_is_chosen_from_a_part_of_the_results(tmp_path, monkeypatch) -> None:
    def lost(*_: object):
        raise RayError("killed")

    monkeypatch.setattr(InlineRay, "get", lost)
    with pytest.raises(AlulaError, match="4 runs could not be finished, so nothing is chosen"):
        sweep(GRID, out=tmp_path / "s")
    data, _ = sweep(replace(GRID, tuning_seeds=0), out=tmp_path / "t")
    assert len(data["failed"]) == 4
    assert data["table"][0]["success"] is None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"seeds": 0}, "seeds is 0; allowed: 1 to 1000"),
        ({"tuning_seeds": -1}, "tuning_seeds is -1; allowed: 0 to 1000"),
        ({"episodes": 0}, "episodes is 0"),
        ({"search": "population", "population": 3}, "population is 3; allowed: 4 to 1000"),
        ({"search": "population", "generations": 13}, "generations is 13; allowed: 2 to 12"),
        ({"search": "population", "settings": {}}, "needs settings"),
        ({"search": "population", "settings": {"algo.updates": [1, 2]}}, "lowest and highest"),
        ({"search": "population", "settings": {"algo.gamma": [0.9]}}, "lowest and highest"),
        ({"search": "population", "settings": {"algo.gamma": [0.9, 0.8]}}, "0 < lowest < highest"),
    ],
)
def test_what_is_refused(change, says) -> None:
    with pytest.raises(AlulaError) as e:
        replace(GRID, **change)
    assert says in str(e.value)


def test_workers_and_checkpoints_are_checked(tmp_path) -> None:
    with pytest.raises(AlulaError, match="workers is 0"):
        sweep(GRID, out=tmp_path / "s", workers=0)
    with pytest.raises(AlulaError, match="checkpoint_every_s is -1"):
        sweep(GRID, out=tmp_path / "s", checkpoint_every_s=-1.0)
    assert not (tmp_path / "s").exists()


def test_without_ray_nothing_is_made(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(module, "require_ray", require_ray)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(AlulaError, match=r"pip install 'alula\[scale\]'"):
        sweep(GRID, out=tmp_path / "s")
    assert not list(tmp_path.iterdir())


def test_the_default_folder_is_that_of_the_request() -> None:
    folder = default_sweep_folder(GRID)
    assert folder == default_sweep_folder(replace(GRID))
    assert folder != default_sweep_folder(replace(GRID, seeds=3))
    # settings of a population do not matter to a grid
    assert folder == default_sweep_folder(replace(GRID, population=9))
    assert folder.name.startswith("sweep-l2f-hover-")


def test_rows_by_hand() -> None:
    def result(success: float, error: float | None, seconds: float | None) -> dict:
        evaluation = {"task": "hover", "success": success, "hover_error_m": error}
        return {"evaluation": evaluation, "env_steps": 1000, "train_s": seconds}

    row = row_of({}, [result(1.0, 0.02, 3.0), result(0.5, 0.04, None), result(0.0, None, 5.0)])
    assert row["success"] == 0.5
    assert row["success_lowest"] == 0.0
    assert row["error_m"] == pytest.approx(0.03)
    assert row["train_s"] == 4.0
    low, high = row["success_interval"]
    # means of three draws of 0, 1/2 and 1: the 2.5 % ends of their 27 equally likely outcomes
    assert (low, high) == (0.0, 1.0)
    assert row_of({}, [result(1.0, 0.02, 3.0)])["success_interval"] is None
    text = to_text([row], "title")
    assert text.startswith("title\n")
    assert "50.0 % (0.0 to 100.0)" in text
    assert "error [cm]" in text
    assert "success_interval_low" in to_csv([row]).splitlines()[0]
