"""Tensors added up in shared memory: sums by hand, in any order of arrival, and what becomes of those that are left."""

import threading
import time
from collections.abc import Callable
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import AllreduceOptions

from alula.training import shared_memory
from alula.training.shared_memory import SharedMemoryGroup


def together(
    count: int, work: Callable[[SharedMemoryGroup], object], timeout_s: float = 30.0
) -> list:
    """What `work` returns or raises for each member of a group; they are threads of this process."""
    store, results = dist.HashStore(), [None] * count

    def go(rank: int) -> None:
        group = SharedMemoryGroup(store, rank, count, timedelta(seconds=timeout_s))
        try:
            results[rank] = work(group)
        except RuntimeError as e:
            results[rank] = e
        finally:
            group.shutdown()

    threads = [threading.Thread(target=go, args=(rank,)) for rank in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def at_once() -> AllreduceOptions:
    """As dist.all_reduce asks."""
    options = AllreduceOptions()
    options.asyncOp = False
    return options


def add_up(group: SharedMemoryGroup, x: Tensor) -> Tensor:
    group.allreduce([x], at_once())
    return x


@pytest.mark.parametrize("count", [2, 3, 5])
def test_sums_by_hand(count: int) -> None:
    def work(group: SharedMemoryGroup) -> list[Tensor]:
        k = float(group.rank() + 1)
        return [
            add_up(group, torch.tensor(k)),
            add_up(group, torch.tensor([[k, 2.0 * k, -k], [0.5, k * k, 0.0]])),
            add_up(group, torch.tensor([k, 1e-12], dtype=torch.float64)),
        ]

    ones, squares = sum(range(1, count + 1)), sum(k * k for k in range(1, count + 1))
    for scalar, matrix, double in together(count, work):
        assert float(scalar) == ones
        assert matrix.tolist() == [[ones, 2.0 * ones, -ones], [0.5 * count, squares, 0.0]]
        assert double.tolist() == pytest.approx([ones, count * 1e-12], rel=1e-15)


@pytest.mark.parametrize("length", [1, 2, 15, 16, 17, 50])
def test_long_tensors_go_in_pieces_and_all_get_the_same_bits(monkeypatch, length: int) -> None:
    monkeypatch.setattr(shared_memory, "ROW_BYTES", 64)
    given = torch.randn((3, length), generator=torch.Generator().manual_seed(0))
    sums = together(3, lambda group: add_up(group, given[group.rank()].clone()))
    assert torch.allclose(sums[0], given.sum(0), rtol=1e-6, atol=1e-6)
    assert all(torch.equal(sums[0], other) for other in sums[1:])


def test_who_is_early_disturbs_nobody() -> None:
    rounds = 300

    def work(group: SharedMemoryGroup) -> list[float]:
        found = []
        for k in range(rounds):
            # each is late now and then, before or after a sum
            if k % 50 == 10 * group.rank():
                time.sleep(0.002)
            x = add_up(group, torch.full((1000,), float(k * (group.rank() + 1))))
            assert torch.equal(x, x[0].expand(1000))
            found.append(float(x[0]))
        return found

    for found in together(4, work):
        assert found == [10.0 * k for k in range(rounds)]


def test_one_that_is_gone_is_missed_by_all() -> None:
    def work(group: SharedMemoryGroup) -> Tensor | None:
        add_up(group, torch.ones(3))
        return None if group.rank() == 1 else add_up(group, torch.ones(3))

    first, gone, other = together(3, work)
    assert gone is None
    for missed in (first, other):
        assert isinstance(missed, RuntimeError)
        assert "a worker is gone" in str(missed)


def test_one_that_says_nothing_is_given_up() -> None:
    told = threading.Event()

    def work(group: SharedMemoryGroup) -> Tensor | None:
        if group.rank() == 1:
            told.wait(30.0)
            return None
        try:
            return add_up(group, torch.ones(3))
        finally:
            told.set()

    first, _ = together(2, work, timeout_s=0.2)
    assert isinstance(first, RuntimeError)
    assert "a worker is silent" in str(first)


def test_only_sums_at_once() -> None:
    def work(group: SharedMemoryGroup) -> None:
        for name, value in (("reduceOp", dist.ReduceOp.MAX), ("asyncOp", True)):
            options = at_once()
            setattr(options, name, value)
            with pytest.raises(RuntimeError, match="add up, and wait"):
                group.allreduce([torch.ones(3)], options)

    assert together(2, work) == [None, None]
