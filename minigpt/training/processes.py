"""One process or those that torchrun started: who does what, sums, sharding, whole state dicts."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint import state_dict as dcp
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.nn.parallel import DistributedDataParallel

from minigpt.hf.loading import find_device

WAIT = timedelta(days=1)  # for the first process, which may read many books
JOB = ".torchrun"  # a run's file with the name of the torchrun that began it


class Processes:
    """The processes of a run; the methods are for all of them together.

    Raises ValueError, naming it, for a device that is not there.
    """

    def __init__(self, device: int | str | torch.device = "auto"):
        self.rank, self.world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        self.device = find_device(device)
        self.is_first, is_gpu = self.rank == 0, self.device.type == "cuda"
        if self.world > 1 and is_gpu:
            self.device = find_device(f"cuda:{os.environ['LOCAL_RANK']}")
            torch.cuda.set_device(self.device)
        if self.world > 1:
            store, rank, world = next(dist.rendezvous("env://", timeout=WAIT))
            attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
            store = dist.PrefixStore(attempt, store)  # it still has the addresses of dead processes
            own = {"store": store, "rank": rank, "world_size": world, "timeout": WAIT}
            dist.init_process_group("nccl" if is_gpu else "gloo", **own)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Begin and end together; say in plain words that another process has ended before.

        A process that leaves alone looks like one that was killed, which each exchange notices.
        """
        try:
            yield
            if self.world > 1:
                self.total(torch.zeros(1, device=self.device)).item()  # waits for all
                time.sleep(0.1)  # gloo's threads need the GIL, which the group's end may hold
                dist.destroy_process_group()
        except RuntimeError as error:
            if self.world > 1 and "onnect" in str(error):
                way = "its own message stands above, if it had time for one; go on with --resume"
                raise ConnectionError(f"another process of this run has ended; {way}") from error
            raise

    def total(self, values: Tensor) -> Tensor:
        """Add up the values of all processes, in place."""
        if self.world > 1:
            dist.all_reduce(values)
        return values

    def share(self, value):
        """Return what the first process has."""
        values = [value]
        if self.world > 1:
            dist.broadcast_object_list(values, device=self.device)
        return values[0]

    def wrap(self, model: nn.Module, shard: bool) -> nn.Module:
        """Return a model whose gradients are the mean over all processes.

        `shard`: each process keeps a part of the parameters (FSDP2), and not all (DDP).
        """
        if self.world == 1:
            return model
        if not shard:
            return DistributedDataParallel(model, gradient_as_bucket_view=True)
        mesh = dist.init_device_mesh(self.device.type, (self.world,))
        for block in model.transformer.h:
            fully_shard(block, mesh=mesh)
        return fully_shard(model, mesh=mesh)


def torchrun_job() -> str:
    """Name the torchrun that started this process, even again after a failure; else ""."""
    return os.environ.get("TORCHELASTIC_ERROR_FILE", "").rpartition("attempt_")[0]


def synchronise_gradients(model: nn.Module, wanted: bool) -> None:
    """Say whether the next backward pass takes the mean over all processes."""
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(wanted)
    elif isinstance(model, DistributedDataParallel):
        model.require_backward_grad_sync = wanted


def whole_state(model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[dict, dict]:
    """Return parameters and the optimizer's moments, on the CPU; empty but in the first process.

    Names and shapes are those of one process. Before the first step there are no moments.
    """
    options = dcp.StateDictOptions(full_state_dict=True, cpu_offload=True)
    weights = dcp.get_model_state_dict(model, options=options)
    if not optimizer.state:  # PyTorch would make a step of its own
        return weights, {}
    return weights, dcp.get_optimizer_state_dict(model, optimizer, options=options)


def set_whole_state(
    model: nn.Module, optimizer: torch.optim.Optimizer, weights: dict, moments: dict | None
) -> None:
    """Set what `whole_state` returned, which only the first process has; without None moments."""
    many = dist.is_initialized()
    options = dcp.StateDictOptions(full_state_dict=True, broadcast_from_rank0=many)
    dcp.set_model_state_dict(model, weights, options=options)
    if moments is not None:
        dcp.set_optimizer_state_dict(model, optimizer, moments, options=options)
