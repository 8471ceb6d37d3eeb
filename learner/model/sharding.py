"""`accelerate launch --use_fsdp`: a base model that is too large for one GPU, every layer shared out between the processes.

A process holds its part of each layer's frozen weights; the whole layer is put together when it computes, forward and
backward, and let go again. The adapter, the embedding and the output head stay whole in each process: the adapter is
summed in one go (team.py), and the head is multiplied by completion rows outside the model's own forward (head.py).
All processes therefore have to compute alike, the same layers at the same time.
Source: PyTorch's `fully_shard` (FSDP2).
"""

from __future__ import annotations

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard


def shard_layers(model: nn.Module, decoder: nn.Module, device: torch.device, processes: int) -> None:
    """Share out `decoder.layers` in place, one layer at a time on its way to `device`, and move the rest of `model` there.

    Raises: ValueError: the model keeps its layers elsewhere.
    """
    if not isinstance(getattr(decoder, "layers", None), nn.ModuleList):
        raise ValueError(f"{type(decoder).__name__} has no list of layers to share out between processes")
    mesh = init_device_mesh(device.type, (processes,))
    shared = {weight for weight in decoder.layers.parameters() if not weight.requires_grad}
    whole = {weight for weight in model.parameters() if weight not in shared}
    for weight in whole:
        weight.data = weight.data.to(device)
    for layer in decoder.layers:
        fully_shard(layer, mesh=mesh, ignored_params=whole)
    fully_shard(decoder, mesh=mesh, ignored_params=whole)       # the root: the layers' order is known to it
