"""Several processes that train one network, each on its share of every batch (torchrun, DistributedDataParallel)."""

from __future__ import annotations

import os

import torch
from torch import distributed, nn


def start_group() -> bool:
    """Join the other processes where torchrun has started several; whether it has."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return False
    if not distributed.is_initialized():
        cuda = torch.cuda.is_available()
        if cuda:
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        distributed.init_process_group("nccl" if cuda else "gloo")
    return True


def world() -> tuple[int, int]:
    """Number of this process, and how many there are."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def shared(network: nn.Module) -> nn.Module:
    """The network whose gradients are means over the processes; itself where there is one process."""
    if world()[1] == 1:
        return network
    device = next(network.parameters()).device
    if device.type == "cuda":  # batch norms see the whole batch; on processors each sees its process's share
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    return nn.parallel.DistributedDataParallel(
        network, device_ids=[device.index] if device.type == "cuda" else None, find_unused_parameters=True
    )


def share(rows: int) -> tuple[slice, float]:
    """The rows of this process of a batch of so many, and what its mean loss is to be multiplied by.

    Gradients are averaged over processes, so that shares of different size must weigh by their size.
    """
    rank, size = world()
    edges = [round(rows * k / size) for k in range(size + 1)]
    mine = slice(edges[rank], edges[rank + 1])
    return mine, size * (mine.stop - mine.start) / rows


def mean_over_processes(value: float) -> float:
    """Sum over processes divided by their number; NaN where any is NaN, so that all stop together."""
    if world()[1] == 1:
        return value
    total = torch.tensor(value, dtype=torch.float64)
    if distributed.get_backend() == "nccl":
        total = total.cuda()
    distributed.all_reduce(total)
    return float(total) / world()[1]


def agreed(value: float) -> float:
    """The value that the first process has, so that all decide alike."""
    if world()[1] == 1:
        return value
    first = torch.tensor(value, dtype=torch.float64)
    if distributed.get_backend() == "nccl":
        first = first.cuda()
    distributed.broadcast(first, 0)
    return float(first)


def wait_for_all() -> None:
    """Return when every process has come here."""
    if world()[1] > 1:
        distributed.barrier()
