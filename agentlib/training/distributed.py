"""Training by several processes that `accelerate launch` or torchrun started, a device each.

It owns who this process is among them, how a model is spread (DDP: a copy each; FSDP: a shard
each), and how losses and tensors come together. Alone, every operation is its plain self.
"""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


class Distributed:
    """The processes that were launched together, and this one's `rank` among their `count`.

    `sharded` splits weights, gradients and optimiser over them (torch's `fully_shard`, FSDP2)
    instead of copying them (DistributedDataParallel). Use it as a context manager: it leaves the
    group at the end.
    """

    def __init__(self, sharded: bool = False):
        self.rank, self.count = (
            int(os.environ.get("RANK", "0")),
            int(os.environ.get("WORLD_SIZE", "1")),
        )
        self.sharded = sharded and self.count > 1
        self._spread = None

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def device(self) -> str:
        """This process's device: a GPU of its own, else the CPU."""
        import torch

        return f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu"

    def __enter__(self) -> "Distributed":
        if self.count > 1:
            import torch
            from torch import distributed

            if torch.cuda.is_available():
                torch.cuda.set_device(self.device())
            distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
        return self

    def __exit__(self, *_: object) -> None:
        if self.count > 1:
            from torch import distributed

            distributed.destroy_process_group()

    def share(self, items: Sequence) -> list:
        """This process's part of what all of them are given alike."""
        return list(items[self.rank :: self.count])

    def spread(
        self, module: "torch.nn.Module", layers: Sequence["torch.nn.Module"]
    ) -> "torch.nn.Module":
        """The module, whose forward gives the loss, spread over the processes; `layers` are
        gathered one by one.

        With FSDP the module's own parameters become shards, so make the optimiser after this.
        """
        if self.count == 1:
            return module
        if self.sharded:
            from torch.distributed.device_mesh import init_device_mesh
            from torch.distributed.fsdp import fully_shard

            mesh = init_device_mesh(self.device().partition(":")[0], (self.count,))
            for layer in layers:
                fully_shard(layer, mesh=mesh)
            self._spread = fully_shard(module, mesh=mesh)
        else:
            from torch.nn.parallel import DistributedDataParallel

            self._spread = DistributedDataParallel(module)
        return self._spread

    def backward(self, loss: "torch.Tensor", last: bool) -> None:
        """Add the gradients of this process's loss; with `last` they become those of the sum over
        all processes."""
        if self.count == 1:
            loss.backward()
            return
        if self.sharded:
            self._spread.set_requires_gradient_sync(last)
        else:
            self._spread.require_backward_grad_sync = last
        (loss * self.count).backward()  # both ways average over the processes

    def total(self, value: float) -> float:
        """The sum of a number over all processes."""
        if self.count == 1:
            return value
        import torch
        from torch import distributed

        held = torch.tensor(
            value,
            dtype=torch.float64 if self.device() == "cpu" else torch.float32,
            device=self.device(),
        )
        distributed.all_reduce(held)
        return float(held)

    def largest(self, value: int) -> int:
        """The largest of a number over all processes."""
        if self.count == 1:
            return value
        return max(self.gathered(value))

    def gathered(self, value: Any) -> list:
        """A value of every process, in their order."""
        if self.count == 1:
            return [value]
        from torch import distributed

        found = [None] * self.count
        distributed.all_gather_object(found, value)
        return found

    def wait(self) -> None:
        """Go on when all processes have come here."""
        self.gathered(None)


def full_tensors(tensors: Mapping[str, "torch.Tensor"]) -> dict[str, "torch.Tensor"]:
    """Tensors as they are outside of FSDP, on the CPU; all processes must ask together."""
    return {
        name: (t.full_tensor() if hasattr(t, "full_tensor") else t).detach().cpu()
        for name, t in tensors.items()
    }


def shard_like(tensor: "torch.Tensor", other: "torch.Tensor") -> "torch.Tensor":
    """A full_tensors tensor spread as another one is, on its device."""
    if not hasattr(other, "full_tensor"):
        return tensor.to(other.device)
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor.to(other.device), other.device_mesh, other.placements)
