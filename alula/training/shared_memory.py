"""A backend of torch.distributed for processes of one machine: they add up tensors in memory that all of them share.

torch's own backend for CPUs, gloo, sends them through sockets of the loopback interface, each time from thread to thread,
which takes some times as long (docs/scale.md). Gloo has learnt to share memory too (pytorch/gloo pull request 458); once torch
brings such a gloo, this file can go.

Each process writes its tensor into a row of its own. When all have, each adds up its share of the columns; when all have
done that, each reads the sums. So a tensor is read and written three times, however many processes there are, and the sums are
the same bits in all of them. A process that waits keeps its core awake, for one that falls asleep in each message wakes late.
"""

import mmap
import os
import socket
import struct
import time
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import AllreduceOptions, Store

SHARED_MEMORY = "shared_memory"
"""The backend's name in torch.distributed."""
ROW_BYTES = 1 << 22
"""Longer tensors are added up in pieces of this size [bytes]; pages that nobody writes to take no memory."""
HERE = b"\1"
"""What a process says that has done its part."""


class SharedMemoryGroup(dist.ProcessGroup):
    """The processes, as one of them sees them; all that they can do together is to add up tensors."""

    def __init__(self, store: Store, rank: int, size: int, timeout: timedelta) -> None:
        """Meet the others.

        Args:
            store: common to all; tells where the first one is.
            rank: which of them this is.
            size: how many there are.
            timeout: one that is silent for so long is lost.

        Raises:
            RuntimeError, OSError: the others do not come.
        """
        # torch declares the other way to make one, which is not for subclasses.
        super().__init__(rank, size)  # type: ignore[call-arg]
        self._first, self._timeout = rank == 0, timeout.total_seconds()
        if self._first:
            memory = os.memfd_create("alula-workers")
            os.ftruncate(memory, (size + 1) * ROW_BYTES)
            self._others = self._invite(store, memory, size - 1)
        else:
            memory, first = self._join(store)
            self._others = [first]
        rows = torch.frombuffer(mmap.mmap(memory, (size + 1) * ROW_BYTES), dtype=torch.uint8)
        os.close(memory)
        self._rows, self._sums = rows[:-ROW_BYTES].view(size, ROW_BYTES), rows[-ROW_BYTES:]
        for other in self._others:
            other.setblocking(False)

    def _invite(self, store: Store, memory: int, count: int) -> list[socket.socket]:
        """The connections to so many others, which are given the memory."""
        others: list[socket.socket] = []
        with socket.socket(socket.AF_UNIX) as server:
            server.settimeout(self._timeout)
            # Linux finds a name that is in no folder: nothing is left of it, whatever becomes of this process.
            server.bind("")
            server.listen(count)
            store.set("first", server.getsockname())
            while len(others) < count:
                other, _ = server.accept()
                # Such a name has no permissions, so other users are sent away.
                _, user, _ = struct.unpack(
                    "3i", other.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
                )
                if user == os.getuid():
                    socket.send_fds(other, [HERE], [memory])
                    others.append(other)
                else:
                    other.close()
        return others

    def _join(self, store: Store) -> tuple[int, socket.socket]:
        """The memory, and the connection to the first process."""
        first = socket.socket(socket.AF_UNIX)
        first.settimeout(self._timeout)
        first.connect(store.get("first"))
        _, memory, _, _ = socket.recv_fds(first, len(HERE), 1)
        if not memory:
            raise RuntimeError("the first worker is gone")
        return memory[0], first

    def allreduce(self, tensors: list[Tensor], options: AllreduceOptions) -> None:
        """Replace tensors on the CPU by their sums over all processes.

        Raises:
            RuntimeError: a process is gone or silent, or something else than a sum at once is asked for.
        """
        if options.reduceOp != dist.ReduceOp.SUM or options.asyncOp:
            raise RuntimeError("these processes add up, and wait until they have")
        for tensor in tensors:
            for piece in tensor.view(-1).split(ROW_BYTES // tensor.element_size()):
                self._add_up(piece)

    def _add_up(self, x: Tensor) -> None:
        rows = self._rows.view(x.dtype)[:, : len(x)]
        sums = self._sums.view(x.dtype)[: len(x)]
        share = -(-len(x) // self.size())
        mine = slice(self.rank() * share, (self.rank() + 1) * share)
        rows[self.rank()] = x
        self._meet()
        torch.sum(rows[:, mine], 0, out=sums[mine])
        self._meet()
        # Who comes to the next sum early writes into its own row only, which all have read.
        x.copy_(sums)

    def _meet(self) -> None:
        """Go on when all processes have come here: the first one hears of all others and tells them.

        The sockets also order what is written to the memory and what is read from it, on any processor.
        """
        try:
            if self._first:
                for other in self._others:
                    self._hear(other)
            for other in self._others:
                other.send(HERE)
            if not self._first:
                self._hear(self._others[0])
        except OSError as e:
            raise RuntimeError(f"a worker is gone: {e}") from None

    def _hear(self, other: socket.socket) -> None:
        """Wait for one that is on its way, without falling asleep."""
        late = time.monotonic() + self._timeout
        while True:
            try:
                if other.recv(len(HERE)) == HERE:
                    return
                raise RuntimeError("a worker is gone")
            except BlockingIOError:
                if time.monotonic() > late:
                    raise RuntimeError("a worker is silent") from None
                # There may be more processes than cores.
                os.sched_yield()

    def shutdown(self) -> None:
        """Leave the others, which then find that this one is gone."""
        for other in self._others:
            other.close()


dist.Backend.register_backend(SHARED_MEMORY, SharedMemoryGroup, devices="cpu")
