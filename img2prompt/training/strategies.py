"""How a regressor trains in several processes, by the strategy's name on the command line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lightning.pytorch.strategies import ModelParallelStrategy
from torch import nn
from torch.distributed.fsdp import fully_shard


class Sharded(ModelParallelStrategy):
    """Weights, gradients and optimiser state shared out among all processes, on processors as on GPUs.

    Zhao et al. 2023, arXiv:2304.11277, in the version of torch's `fully_shard`, which keeps every parameter's shape:
    weight decay goes by it. The models in last/ and best/ are those of any run; a checkpoint goes on with fsdp only.
    """

    def __init__(self) -> None:
        super().__init__(tensor_parallel_size=1, save_distributed_checkpoint=False)

    def setup_environment(self) -> None:
        """As in the base class, with all processes in one dimension."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()


def shard(parts: list[nn.Module], mesh: Any) -> None:
    """Shares out each module's parameters, but for those that an earlier one has; inner modules first."""
    for part in parts:
        fully_shard(part, mesh=mesh["data_parallel"])


# Before fine-tuning begins, the tower's gradients do not come: DDP must not wait for them.
STRATEGIES: dict[str, Callable[[], Any]] = {
    "ddp": lambda: "ddp_find_unused_parameters_true",
    "fsdp": Sharded,
}
