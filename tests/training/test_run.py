"""A training run: what it leaves, that it repeats, and that it survives being interrupted."""

import csv
import io
import json
import pickle
import signal
import threading
import zipfile
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from alula.build import build_robot
from alula.errors import AlulaError
from alula.policies.network import Network
from alula.policies.onnx_file import load_policy
from alula.presets import PRESETS, Preset, get_preset
from alula.training import run
from alula.training.run import (
    CHECKPOINT,
    CONFIG,
    METRICS,
    POLICY,
    TrainingResult,
    train,
    updates_saved,
)
from alula.training.short_horizon import ShortHorizonLearner

UPDATES = 12
HOVER = get_preset("l2f-hover")
TINY = replace(
    HOVER,
    algo=replace(
        HOVER.algo, updates=UPDATES, n_envs=16, horizon_start=4, horizon_end=8, hidden=(8, 8),
        critic_hidden=(4, 4),
    ),
)  # fmt: skip


def fly(out: Path, preset: Preset = TINY, **options) -> TrainingResult:
    out.mkdir(exist_ok=True)
    return train(preset, out=out, **options)


def same(a: Network, b: Network) -> bool:
    pairs = zip((*a.weights, *a.biases), (*b.weights, *b.biases), strict=True)
    return all(np.array_equal(x, y) for x, y in pairs)


@pytest.fixture
def interrupted_after(monkeypatch):
    """Makes the learner raise KeyboardInterrupt instead of update k + 1, once."""
    real = ShortHorizonLearner.update

    def arrange(k: int) -> None:
        def update(self: ShortHorizonLearner):
            if self.updates_done == k:
                monkeypatch.setattr(ShortHorizonLearner, "update", real)
                raise KeyboardInterrupt
            return real(self)

        monkeypatch.setattr(ShortHorizonLearner, "update", update)

    return arrange


def test_what_a_run_leaves(tmp_path) -> None:
    result = fly(tmp_path, seed=3)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([POLICY, METRICS, CONFIG])
    policy = load_policy(result.policy_path)
    assert same(policy.network, result.network)
    assert policy.contract.robot == "crazyflie-l2f"
    assert policy.contract.task == "hover"
    training = policy.contract.training
    assert training["seed"] == 3
    assert training["preset"] == "l2f-hover"
    assert training["updates"] == result.updates == UPDATES
    assert training["interrupted"] is False
    assert 0.0 < result.train_s < 60.0
    # horizons 4..8 in multiples of 4: 4 + 4 k / 6 rounds to 8 from update 3 on (6 / 4 = 1.5, to even)
    assert result.env_steps == training["env_steps"] == 16 * sum(s.horizon for s in result.history)
    assert [s.horizon for s in result.history] == [4, 4, 4, 8, 8, 8, 8, 8, 8, 8, 8, 8]


def test_config_says_everything_that_decides_the_result(tmp_path) -> None:
    fly(tmp_path, seed=3)
    config = json.loads((tmp_path / CONFIG).read_text())
    assert config["seed"] == 3
    assert config["preset"]["algo"]["updates"] == UPDATES
    assert config["preset"]["sim"]["randomization"]["mass"] == 0.0
    assert config["robot"]["name"] == "crazyflie-l2f"
    assert len(config["robot"]["hash"]) == 64


def test_metrics_have_one_row_an_update(tmp_path) -> None:
    result = fly(tmp_path)
    rows = list(csv.DictReader(io.StringIO((tmp_path / METRICS).read_text())))
    assert [int(r["update"]) for r in rows] == list(range(1, UPDATES + 1))
    assert [float(r["cost"]) for r in rows] == [s.cost for s in result.history]
    assert all(np.isfinite([float(v) for v in r.values()]).all() for r in rows)


def test_the_same_seed_writes_the_same_bytes(tmp_path, monkeypatch) -> None:
    ticks = count()
    monkeypatch.setattr(run.time, "perf_counter", lambda: float(next(ticks)))
    for name in "ab":
        ticks = count()
        fly(tmp_path / name, seed=5)
    for name in (POLICY, METRICS, CONFIG):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_another_seed_is_another_policy(tmp_path) -> None:
    a, b = fly(tmp_path / "a", seed=1), fly(tmp_path / "b", seed=2)
    assert not same(a.network, b.network)


@pytest.mark.parametrize("k", [1, 5, 11])
def test_an_interrupted_run_goes_on_bit_for_bit(tmp_path, interrupted_after, k: int) -> None:
    whole = fly(tmp_path / "whole", seed=4)
    interrupted_after(k)
    with pytest.raises(KeyboardInterrupt):
        fly(tmp_path / "broken", seed=4)
    assert (tmp_path / "broken" / CHECKPOINT).is_file()
    resumed = fly(tmp_path / "broken", seed=4, resume=tmp_path / "broken")
    assert same(resumed.network, whole.network)
    assert resumed.env_steps == whole.env_steps
    assert resumed.history == whole.history
    assert not (tmp_path / "broken" / CHECKPOINT).exists()
    policies = [load_policy(tmp_path / name / POLICY) for name in ("broken", "whole")]
    assert same(policies[0].network, policies[1].network)
    assert policies[0].contract.training["interrupted"] is False


def test_a_part_of_a_training_goes_on_bit_for_bit(tmp_path) -> None:
    whole = fly(tmp_path / "whole", seed=4)
    part = fly(tmp_path / "part", seed=4, until=5)
    assert part.updates == updates_saved(tmp_path / "part") == 5
    assert load_policy(part.policy_path).contract.training["interrupted"] is False
    again = fly(tmp_path / "part", seed=4, until=5, resume=tmp_path / "part")
    assert same(again.network, part.network)
    rest = fly(tmp_path / "part", seed=4, until=100, resume=tmp_path / "part")
    assert same(rest.network, whole.network)
    assert updates_saved(tmp_path / "part") is None
    assert (tmp_path / "part" / METRICS).read_text() == (tmp_path / "whole" / METRICS).read_text()


def test_checkpoints_after_every_update_if_asked_for(tmp_path, monkeypatch) -> None:
    seen = []
    real = run._Run.save

    def save(self, **options) -> None:
        real(self, **options)
        seen.append((updates_saved(tmp_path), options))

    monkeypatch.setattr(run._Run, "save", save)
    fly(tmp_path, checkpoint_every_s=0.0)
    assert [updates for updates, _ in seen] == list(range(1, UPDATES + 1))
    # not forced onto the disk, and without the log
    assert all(options == {"log": False, "lasting": False} for _, options in seen)


def test_what_a_folder_has_saved(tmp_path) -> None:
    assert updates_saved(tmp_path) is None
    (tmp_path / CHECKPOINT).write_bytes(b"damaged")
    assert updates_saved(tmp_path) is None


def test_metrics_of_a_resumed_run_keep_the_rows_before(tmp_path, interrupted_after) -> None:
    whole = fly(tmp_path / "whole")
    interrupted_after(5)
    with pytest.raises(KeyboardInterrupt):
        fly(tmp_path / "broken")
    fly(tmp_path / "broken", resume=tmp_path / "broken")
    assert (tmp_path / "broken" / METRICS).read_text() == (tmp_path / "whole" / METRICS).read_text()
    assert whole.updates == UPDATES


@pytest.mark.parametrize(
    ("horizon_start", "stopped", "kept"),
    [
        # mean costs of ten updates: 8.1 after update 10, least after update 17 with 3.4, then more
        (8, 25, 17),
        # too few of them for a mean
        (8, 9, 9),
        # a horizon that still grows: costs of updates 1 to 9 were another horizon's
        (4, 19, 19),
    ],
)
def test_ctrl_c_keeps_the_best_policy(tmp_path, monkeypatch, horizon_start, stopped, kept) -> None:
    costs = [0.0, *[9.0] * 9, *[1.0] * 7, *[30.0] * 23]
    networks: dict[int, Network] = {}
    real = ShortHorizonLearner.update

    def update(self: ShortHorizonLearner):
        if self.updates_done == stopped:
            raise KeyboardInterrupt
        statistics = real(self)
        networks[self.updates_done] = self.network()
        return replace(statistics, cost=costs[self.updates_done - 1])

    monkeypatch.setattr(ShortHorizonLearner, "update", update)
    algo = replace(TINY.algo, updates=len(costs), horizon_start=horizon_start, horizon_end=8)
    with pytest.raises(KeyboardInterrupt):
        fly(tmp_path, replace(TINY, algo=algo))
    policy = load_policy(tmp_path / POLICY)
    assert [k for k, network in networks.items() if same(network, policy.network)] == [kept]
    assert policy.contract.training["interrupted"] is True
    assert policy.contract.training["updates"] == stopped
    assert len((tmp_path / METRICS).read_text().splitlines()) == stopped + 1


def test_ctrl_c_before_the_first_update_leaves_no_policy(tmp_path, interrupted_after) -> None:
    interrupted_after(0)
    with pytest.raises(KeyboardInterrupt):
        fly(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [CONFIG]


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.95])
def test_a_real_signal_leaves_a_state_that_goes_on_bit_for_bit(
    tmp_path, monkeypatch, share: float
) -> None:
    # somewhere within the time of update 50: in the kernels or between the optimisers
    updates = 400
    preset = replace(
        TINY, algo=replace(TINY.algo, updates=updates, n_envs=64, horizon_start=32, horizon_end=32)
    )
    whole = fly(tmp_path / "whole", preset)
    target, real = threading.main_thread().ident, ShortHorizonLearner.update
    timer = threading.Timer(
        share * whole.train_s / updates, lambda: signal.pthread_kill(target, signal.SIGINT)
    )

    def update(self: ShortHorizonLearner):
        if self.updates_done == 50:
            timer.start()
        return real(self)

    with monkeypatch.context() as patch:
        patch.setattr(ShortHorizonLearner, "update", update)
        with pytest.raises(KeyboardInterrupt):
            fly(tmp_path / "broken", preset)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    done = load_policy(tmp_path / "broken" / POLICY).contract.training["updates"]
    assert 50 < done < updates, "it finished the update, and did not wait for the end of the run"
    resumed = fly(tmp_path / "broken", preset, resume=tmp_path / "broken")
    assert same(resumed.network, whole.network)
    assert resumed.history == whole.history


def test_checkpoints_are_written_now_and_then(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(run, "CHECKPOINT_EVERY_S", -1.0)
    seen = []
    real = ShortHorizonLearner.update

    def update(self: ShortHorizonLearner):
        seen.append((tmp_path / CHECKPOINT).is_file())
        return real(self)

    monkeypatch.setattr(ShortHorizonLearner, "update", update)
    fly(tmp_path)
    assert seen == [False] + [True] * (UPDATES - 1)
    assert not (tmp_path / CHECKPOINT).exists()


class TestDamagedCheckpoints:
    """Files of another run, of a full disk, or of a stranger."""

    @pytest.fixture
    def folder(self, tmp_path, interrupted_after) -> Path:
        interrupted_after(3)
        with pytest.raises(KeyboardInterrupt):
            fly(tmp_path)
        return tmp_path

    def refuse(self, folder: Path, match: str, preset: Preset = TINY, **options) -> None:
        before = (folder / POLICY).read_bytes()
        with pytest.raises(AlulaError, match=match):
            fly(folder, preset, resume=folder, **options)
        assert (folder / POLICY).read_bytes() == before

    @pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
    def test_truncated(self, folder: Path, share: float) -> None:
        data = (folder / CHECKPOINT).read_bytes()
        (folder / CHECKPOINT).write_bytes(data[: int(share * len(data))])
        self.refuse(folder, "damaged")

    def test_a_flipped_bit(self, folder: Path) -> None:
        data = bytearray((folder / CHECKPOINT).read_bytes())
        data[len(data) // 2] ^= 4
        (folder / CHECKPOINT).write_bytes(data)
        self.refuse(folder, "damaged")

    def test_pickle_is_not_loaded(self, folder: Path) -> None:
        marker = folder / "executed"

        class Evil:
            def __reduce__(self):
                return Path.touch, (marker,)

        (folder / CHECKPOINT).write_bytes(pickle.dumps(Evil()))
        self.refuse(folder, "damaged")
        np.savez(folder / "evil.npz", config=np.array([Evil()], dtype=object))
        (folder / "evil.npz").rename(folder / CHECKPOINT)
        self.refuse(folder, "damaged")
        assert not marker.exists()

    def test_a_bomb(self, folder: Path) -> None:
        # a small file that says it holds a terabyte
        header = b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False, 'shape': (125000000000,), }"
        with zipfile.ZipFile(folder / CHECKPOINT, "w") as file:
            file.writestr("config.npy", header.ljust(127) + b"\n")
        self.refuse(folder, "damaged")

    def test_of_another_seed_or_preset(self, folder: Path) -> None:
        self.refuse(folder, r"another preset, settings \(--set\), robot, seed, workers", seed=1)
        other = replace(TINY, algo=replace(TINY.algo, updates=13))
        self.refuse(
            folder, r"another preset, settings \(--set\), robot, seed, workers", preset=other
        )

    def test_arrays_that_do_not_fit(self, folder: Path) -> None:
        with np.load(folder / CHECKPOINT) as file:
            table = {name: file[name] for name in file.files}
        for name, value in (
            ("actor", table["actor"][:-1]), ("batch_state", table["batch_state"].astype(np.float64)),
            ("counts", np.array([1.0, 2.0, np.nan, 4.0])), ("counts", np.array([-1, 0, 0, 0])),
            ("counts", np.array(["a"] * 4)), ("history", table["history"][:-1]),
            ("history", table["history"] * np.nan), ("history", np.array(3.0)),
        ):  # fmt: skip
            np.savez(folder / CHECKPOINT, **(table | {name: value}))
            self.refuse(folder, "checkpoint does not fit")
        del table["critic"]
        np.savez(folder / CHECKPOINT, **table)
        self.refuse(folder, "checkpoint does not fit: critic")

    def test_nothing_to_resume(self, folder: Path) -> None:
        (folder / CHECKPOINT).unlink()
        self.refuse(folder, "nothing to resume")
        with pytest.raises(AlulaError, match="nothing to resume"):
            fly(folder, resume=folder / "nowhere")


def test_presets_are_named_once_and_unknown_ones_refused() -> None:
    names = [p.name for p in PRESETS]
    assert len(set(names)) == len(names)
    for name in names:
        assert get_preset(name).name == name
    with pytest.raises(AlulaError, match=r"unknown preset 'hower'; known: l2f-hover"):
        get_preset("hower")


def named(preset: Preset):
    # Its script is cloned first.
    marks = pytest.mark.slow if preset.base != "none" else ()
    return pytest.param(preset, id=preset.name, marks=marks)


@pytest.mark.parametrize("preset", [named(p) for p in PRESETS])
def test_every_preset_trains(tmp_path, preset: Preset) -> None:
    tiny = replace(preset, algo=replace(preset.algo, updates=2, n_envs=16))
    policy = load_policy(fly(tmp_path, tiny).policy_path, robot=build_robot(preset))
    assert policy.contract.task == preset.task


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "nominal", "success", "error"),
    [("l2f-hover", True, 0.99, 0.03), ("crazyflie-hover", False, 0.98, None)],
)
def test_a_whole_training_reaches_what_is_promised(tmp_path, name, nominal, success, error) -> None:
    from alula.evaluation.evaluate import evaluate_policy

    seed = 20260 + len(name)
    result = fly(tmp_path, get_preset(name), seed=seed)
    found = evaluate_policy(result.policy_path, episodes=256, seed=77, nominal=nominal).metrics
    assert found.success >= success
    if error is not None:
        assert found.hover_error_m is not None
        assert found.hover_error_m <= error
