"""Many runs at once on Ray: on this machine alone, or on a cluster by its address.

Ray starts worker processes, gives each its next run and tells when one has died. What a run has reached lies in its
folder and nowhere else, so that a run whose worker was killed begins again, in another one, at its last checkpoint.
"""

import os
import secrets
import shutil
import signal
import socket
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from types import ModuleType
from typing import Any, TypeVar

from alula.errors import AlulaError

OBJECT_STORE_BYTES = 100_000_000
"""Memory that Ray may share between processes; runs exchange files, so next to nothing goes through it."""
ATTEMPTS = 3
"""A run that loses its worker this often without having come further is given up."""
LOOK_EVERY_S = 0.5
"""Time between two looks at how far the runs are [s]."""
CONNECT_WITHIN_S = 10.0
"""Time in which a cluster must answer [s]."""
LOOPBACK = "127.0.0.1"
NO_RAY = (
    "alula sweep runs on Ray, which is not installed; allowed: after pip install 'alula[scale]'"
)

Run = TypeVar("Run")


@contextmanager
def ray_session(
    *, workers: int | None, address: str | None, dashboard: bool = False
) -> Iterator[tuple[ModuleType, int]]:
    """Ray and the number of workers to use, until the block ends.

    Without an address Ray is started on this machine: it listens on the loopback interface alone, wants a token that
    only this process and its children know, and ends with the block.

    Args:
        workers: most runs at once; None: one for each core of the machine or cluster.
        address: of a running cluster, "HOST:PORT", or "auto" for the one that this machine belongs to.
        dashboard: show Ray's dashboard, on this machine's loopback interface.

    Raises:
        AlulaError: Ray is not installed, or the cluster cannot be reached.
    """
    ray = _import_ray(local=address is None)
    if dashboard and (address is not None or find_spec("aiohttp_cors") is None):
        raise AlulaError(
            "--dashboard shows a local Ray, with what pip install 'ray[default]' brings; a cluster has its own"
        )
    scratch = tempfile.mkdtemp(prefix="alula-ray-")
    terminate = signal.getsignal(signal.SIGTERM)
    try:
        try:
            _start(ray, scratch, workers, address, dashboard)
            # Ray puts its own in place, which ends this process at once.
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, terminate)
        except (RuntimeError, ValueError, OverflowError, OSError) as e:
            where = f"the cluster at {address}" if address else "Ray on this machine"
            reason = (str(e).splitlines() or [type(e).__name__])[0]
            raise AlulaError(f"{where} cannot be used: {reason}") from None
        here = ray.util.get_node_ip_address()
        if address is None and here != LOOPBACK:
            raise AlulaError(
                f"Ray would listen on {here}; allowed: {LOOPBACK} (was ray imported before alula?)"
            )
        cores = max(1, int(ray.cluster_resources().get("CPU", 1)))
        yield ray, min(workers or cores, cores)
    finally:
        with held_back():
            ray.shutdown()
            shutil.rmtree(scratch, ignore_errors=True)


def _start(
    ray: ModuleType, scratch: str, workers: int | None, address: str | None, dashboard: bool
) -> None:
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    if address is not None:
        host, colon, port = address.rpartition(":")
        if colon and port.isdecimal() and "//" not in host:
            # Ray itself would try for minutes.
            socket.create_connection((host.strip("[]"), int(port)), CONNECT_WITHIN_S).close()
        ray.init(address=address, **quiet)
        return
    # Ctrl-C is for this process alone: Ray's inherit that it is held back, and end with this one.
    with held_back():
        ray.init(
            address="local",
            num_cpus=workers or len(os.sched_getaffinity(0)),
            num_gpus=0,
            object_store_memory=OBJECT_STORE_BYTES,
            include_dashboard=dashboard,
            dashboard_host=LOOPBACK,
            _temp_dir=scratch,
            **quiet,
        )


def run_all(
    ray: ModuleType,
    runs: Sequence[Run],
    work: Callable[[Run], None],
    *,
    workers: int,
    reached: Callable[[Run], int],
    look: Callable[[Sequence[Run]], None],
    lost: Callable[[Run, int], None],
) -> dict[int, str]:
    """Do the work of every run, at most `workers` at once; what became of those that failed, by index.

    Args:
        ray: from `ray_session`.
        runs: what there is to do; must pickle.
        work: does a run in a worker process, from wherever it has come to; must be importable there.
        workers: most runs at once.
        reached: how far a run has come, which tells those that lose their workers again and again from those
            that lose them now and then.
        look: shown the runs at work, twice a second.
        lost: told of a run that has lost its worker, and how far it has come.
    """
    # Ray sets OMP_NUM_THREADS to the cores of a task, so that runs do not take each other's.
    task = ray.remote(num_cpus=1, max_retries=0)(work)
    waiting, failed = deque(range(len(runs))), {}
    busy: dict[Any, int] = {}
    attempts, best = [0] * len(runs), [-1] * len(runs)
    while waiting or busy:
        while waiting and len(busy) < workers:
            i = waiting.popleft()
            busy[task.remote(runs[i])] = i
        done, _ = ray.wait(list(busy), num_returns=1, timeout=LOOK_EVERY_S)
        for reference in done:
            i = busy.pop(reference)
            try:
                ray.get(reference)
            except ray.exceptions.RayTaskError as e:
                failed[i] = _told(e.cause)
            except ray.exceptions.RayError as e:
                # The worker is gone, not the run.
                now = reached(runs[i])
                attempts[i] = 1 if now > best[i] else attempts[i] + 1
                best[i] = max(best[i], now)
                lost(runs[i], now)
                if attempts[i] < ATTEMPTS:
                    waiting.appendleft(i)
                else:
                    failed[i] = f"lost its worker {ATTEMPTS} times: {_told(e)}"
        look([runs[i] for i in busy.values()])
    return failed


def require_ray() -> None:
    """Refuse what needs Ray where there is none, before anything is made.

    Raises:
        AlulaError: Ray is not installed.
    """
    if find_spec("ray") is None:
        raise AlulaError(NO_RAY)


def _import_ray(*, local: bool) -> ModuleType:
    """Ray, told not to report its use, and on one machine to keep to it."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # What it has to say of a lost worker is a page; `run_all` says it in a line.
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")
    if local:
        # Its name tells where Ray uses it first; off, Ray takes the loopback address for this machine's everywhere.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    try:
        import ray
        import ray.exceptions
        import ray.util
    except ImportError:
        raise AlulaError(NO_RAY) from None
    return ray


@contextmanager
def held_back() -> Iterator[None]:
    """Ctrl-C waits until the block has ended; processes that are started in it never hear of it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _told(error: BaseException) -> str:
    """An error in one line."""
    line = (str(error).strip().splitlines() or [""])[0]
    return line if isinstance(error, AlulaError) else f"{type(error).__name__}: {line}"
