"""Training steps as CUDA graphs: a GPU that does not wait for Python."""

import warnings
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MOST = 2**15  # tokens of a batch; with more, a GPU takes longer than Python
SHORTEST = 32  # tokens of a row


class Loss(nn.Module):
    """What is recorded: the tensors of a batch in, the loss out."""

    def __init__(self, network: nn.Module, forward: Callable, settings: tuple):
        super().__init__()
        self.network = network  # whose parameters get gradients
        self.compute = lambda *batch: forward(*batch, *settings)[1]

    def forward(self, *batch: Tensor) -> Tensor:
        return self.compute(*batch)


def graphed(network: nn.Module, forward: Callable) -> Callable:
    """Return the forward pass of a `TaskModel` in training, as CUDA graphs with its backward pass.

    A step of a small batch is a thousand short kernels, which a GPU runs faster than Python starts
    them; a graph starts all at once. Each shape of a batch is recorded when it comes first and
    keeps its own gradients of all parameters, so rows are padded to powers of two: few shapes.
    A step writes its loss where the one before stood. Source:
    `torch.cuda.make_graphed_callables`.
    """
    graphs, pool = {}, torch.cuda.graph_pool_handle()
    warnings.filterwarnings("ignore", "The AccumulateGrad node")  # of the stream that records

    def run(ids: Tensor, ends: Tensor, answers: Tensor, *settings):
        T = ids.shape[-1]
        width = min(max(SHORTEST, 1 << (T - 1).bit_length()), network.config.n_positions)
        batch = F.pad(ids, (0, width - T)), ends, answers
        shape = batch[0].shape
        if shape not in graphs:
            loss = Loss(network, forward, settings)
            with torch.random.fork_rng([ids.device]):  # recording takes random numbers
                graphs[shape] = torch.cuda.make_graphed_callables(loss, batch, pool=pool)
        return None, graphs[shape](*batch)

    return run
