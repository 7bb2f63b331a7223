"""PPO whose environments are shared among processes of this machine (data parallelism, with torch.distributed).

Each worker steps its share of the environments in its own process and has the same networks. What they learn from is
common to all: the gradient of every minibatch, the statistics of the normalisers, the mean and spread of the
advantages. So W workers with N / W environments each learn what one learns with N, but for rounding and other random
numbers.

Worker 0 is the process that trains. A worker that dies takes the update at hand with it: the others are ended, all are
started anew from what worker 0 kept of the last update, with new episodes, and the update is made again.
"""

import multiprocessing
import os
import shutil
import statistics
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from alula.errors import AlulaError
from alula.policies.network import Network
from alula.training.layers import Workers
from alula.training.ppo import PpoLearner, PpoStatistics
from alula.training.scale import held_back
from alula.training.shared_memory import SHARED_MEMORY

TIMEOUT = timedelta(minutes=5)
"""A worker that is silent for so long is lost."""
ATTEMPTS = 3
"""An update that loses a worker this often is given up."""
DIES_WITHIN_S = 10.0
"""Time in which a lost worker's process has ended [s]."""

Make = Callable[[Workers], PpoLearner]
"""Makes the learner of one worker; must pickle."""


class ProcessWorkers:
    """The workers, as one of them sees them."""

    def __init__(self, folder: Path, rank: int, count: int) -> None:
        """Meet the others through a file in `folder`: torch's other meeting point is a server that listens everywhere."""
        self.rank, self.count = rank, count
        meeting = f"file://{folder / 'meeting'}"
        dist.init_process_group(
            SHARED_MEMORY, init_method=meeting, rank=rank, world_size=count, timeout=TIMEOUT
        )
        # All have met, and nobody looks into the folder again.
        self.average(torch.zeros(1))
        if rank == 0:
            shutil.rmtree(folder)
        # The environments' threads and torch's take turns; workers share the cores.
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // count))

    def average(self, x: Tensor) -> Tensor:
        """The mean of a tensor over all workers, the same bits in each."""
        total = x.detach().clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total.div_(self.count)


class DataParallelPpo:
    """Worker 0: a learner like any other, with `count` - 1 processes that learn along with it."""

    statistics = PpoStatistics

    def __init__(self, make: Make, count: int) -> None:
        """Start all workers.

        Args:
            make: makes a worker's learner, given the workers.
            count: number of workers, at least two.
        """
        self._make, self._count = make, count
        self._threads = torch.get_num_threads()
        self._start()

    def _start(self) -> None:
        folder = Path(tempfile.mkdtemp(prefix="alula-workers-"))
        # A copy of this process (fork) would have torch's threads in an unknown state.
        context = multiprocessing.get_context("spawn")
        self._followers: list[BaseProcess] = []
        self._pipes: list[Connection] = []
        self._ended = weakref.finalize(self, _end, self._followers, self._pipes, folder)
        for rank in range(1, self._count):
            pipe, theirs = context.Pipe()
            follower = context.Process(
                target=_follow, args=(self._make, folder, rank, self._count, theirs), daemon=True
            )
            # Ctrl-C is for worker 0, which finishes its update and then ends the others.
            start_deaf(follower)
            theirs.close()
            self._followers.append(follower)
            self._pipes.append(pipe)
        self.learner = self._make(ProcessWorkers(folder, 0, self._count))
        self._count_up()

    def _count_up(self) -> None:
        self.updates_done, self.env_steps = self.learner.updates_done, self.learner.env_steps

    def update(self) -> PpoStatistics:
        """One update of all workers."""
        kept = self.learner.snapshot()
        for _ in range(ATTEMPTS):
            try:
                self._tell("update")
                statistics = self.learner.update()
            except (RuntimeError, OSError) as e:
                why = self._why(e)
                self.close()
                self._start()
                self.restore(kept)
            else:
                self._count_up()
                return statistics
        raise AlulaError(f"a worker was lost {ATTEMPTS} times in update {self.updates_done}: {why}")

    @property
    def settled(self) -> bool:
        """As `Learner.settled`; the same in all workers."""
        return self.learner.settled

    @property
    def diverged(self) -> int:
        """Of worker 0."""
        return self.learner.diverged

    def network(self) -> Network:
        """The policy as it is now."""
        return self.learner.network()

    def snapshot(self) -> dict[str, np.ndarray]:
        """Everything a run needs to go on but the episodes, which begin anew."""
        return self.learner.snapshot()

    def restore(self, snapshot: dict[str, np.ndarray]) -> None:
        """Go on from a snapshot, with new episodes.

        Raises:
            AlulaError: an array is missing or has another shape or type.
        """
        self.learner.restore(snapshot)
        self._tell(snapshot)
        self._count_up()

    def close(self) -> None:
        """End the other workers."""
        self._ended()
        if dist.is_initialized():
            dist.destroy_process_group()
        torch.set_num_threads(self._threads)

    def _tell(self, what: Any) -> None:
        for pipe in self._pipes:
            pipe.send(what)

    def _why(self, error: Exception) -> str:
        """What ended a worker; an error that came from elsewhere is raised again."""
        for follower, pipe in zip(self._followers, self._pipes, strict=True):
            try:
                if pipe.poll():
                    return str(pipe.recv())
            except (EOFError, OSError):
                follower.join(DIES_WITHIN_S)
            if follower.exitcode is not None:
                return f"its process ended with {follower.exitcode}"
        raise error


def start_deaf(process: BaseProcess) -> None:
    """Start a process that never hears of Ctrl-C."""
    # Python's helper of processes comes with the first one, and would let Ctrl-C in again.
    resource_tracker.ensure_running()
    with held_back():
        process.start()


def _follow(make: Make, folder: Path, rank: int, count: int, pipe: Connection) -> None:
    """A worker but the first: does what it is told until worker 0 is gone."""
    threading.Thread(target=_end_with_worker_0, args=(folder,), daemon=True).start()
    try:
        learner = make(ProcessWorkers(folder, rank, count))
        while True:
            told = pipe.recv()
            if told == "update":
                learner.update()
            else:
                learner.restore(told)
    except EOFError:
        return
    except (AlulaError, RuntimeError) as e:
        try:
            pipe.send((str(e).splitlines() or [""])[0])
        except OSError:
            return


def _end_with_worker_0(folder: Path) -> None:
    """End this process when worker 0 is gone, be it in the middle of a message."""
    worker_0 = multiprocessing.parent_process()
    assert worker_0 is not None
    worker_0.join()
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)


@contextmanager
def threads_of_torch(count: int) -> Iterator[None]:
    """So many threads for torch in this process."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def message_seconds(sizes: Sequence[int], repeats: int) -> dict[int, float]:
    """Median time of an average over two workers on this machine, by the size of the tensor [bytes] -> [s].

    Some rounds before the first that counts warm up.
    """
    folder = Path(tempfile.mkdtemp(prefix="alula-workers-"))
    context = multiprocessing.get_context("spawn")
    other = context.Process(target=_exchange, args=(folder, 1, sizes, repeats), daemon=True)
    start_deaf(other)
    try:
        return _exchange(folder, 0, sizes, repeats)
    finally:
        other.join(DIES_WITHIN_S)
        _end([other], [], folder)


def _exchange(folder: Path, rank: int, sizes: Sequence[int], repeats: int) -> dict[int, float]:
    with threads_of_torch(1):
        return _exchanged(ProcessWorkers(folder, rank, 2), sizes, repeats)


def _exchanged(workers: ProcessWorkers, sizes: Sequence[int], repeats: int) -> dict[int, float]:
    try:
        found = {}
        for size in sizes:
            tensor, times = torch.ones(size // 4), []
            for _ in range(repeats + max(3, repeats // 10)):
                start = time.perf_counter()
                workers.average(tensor)
                times.append(time.perf_counter() - start)
            found[size] = statistics.median(times[-repeats:])
        return found
    finally:
        dist.destroy_process_group()


def _end(followers: Sequence[BaseProcess], pipes: Sequence[Connection], folder: Path) -> None:
    for pipe in pipes:
        pipe.close()
    for follower in followers:
        follower.kill()
        follower.join()
    shutil.rmtree(folder, ignore_errors=True)
