"""Several processes as one learner: `accelerate launch -m learner --once`.

The first process is the learner: it alone has the lease, the store, the gates and the publication. The others hold the
same base model and the same adapter and wait for work, which the first one broadcasts whole: all see the same data.
Every step, or micro-batch of a sharded model, is split between the processes row by row, so that they wait alike, and each divides by the
whole step's counts: the sum of their gradients is the gradient of one process, up to the order of additions.
Gradients are those of the LoRA weights alone, a few megabytes, summed in one go; nothing else is exchanged in a step,
unless the base model is sharded (learner/model/sharding.py): then each layer's weights are put together wherever it computes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

import torch
from torch import Tensor

from learner.errors import Stopped

PATIENCE = timedelta(hours=12)
"""The others wait so long for the next piece of work while the first is at a gate; that a process died is seen at once, by the launcher."""


class Part(NamedTuple):
    """A process's rows of a step, or of a micro-batch of it."""

    rows: list
    counts: bool
    """False: another process's rows, computed and thrown away, because all have to take part in every layer."""


class Team:
    """One process: everything is its own, nothing is exchanged."""

    size = 1
    leads = True
    sharded = False
    """Whether each process holds a part of every layer, so that what one computes all must compute with it."""
    latest: object = None
    """The base model's view that was made together last: all processes have it."""

    def parts(self, batches: Iterable[Sequence]) -> list[Part]:
        """This process's rows; those that count, of all processes, are all rows, each once."""
        return [Part(list(rows), True) for rows in batches]

    def send(self, name: str, *work: Any) -> None:
        """The first process has work for the others, `(name, *work)`; they take it by `receive`."""

    def gather(self, mine: dict, device: torch.device | str) -> dict:
        """The rows of all processes, by key, in each of them, on its own `device`."""
        return mine

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over the processes."""

    def agree(self, make_known: Callable[[], None]) -> None:
        """After a step: the first process calls `make_known`, which may raise to stop; then all stop. Raises: Stopped, in the others."""
        make_known()


class ManyProcesses(Team):
    """This one of several processes, over gloo on CPUs and NCCL on GPUs."""

    def __init__(self) -> None:
        from accelerate import PartialState

        self._state = PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE)
        self.size, self.leads = self._state.num_processes, self._state.is_main_process
        self.sharded = self.size > 1 and os.environ.get("ACCELERATE_USE_FSDP") == "true"       # `accelerate launch --use_fsdp`

    def parts(self, batches: Iterable[Sequence]) -> list[Part]:
        shares = [(rows, list(rows[self._state.process_index::self.size])) for rows in batches]
        return [Part(mine or list(rows[:1]), bool(mine)) for rows, mine in shares if mine or self.sharded]

    def send(self, name: str, *work: Any) -> None:
        from accelerate.utils import send_to_device

        if self.leads:
            self._broadcast(send_to_device((name, *work), "cpu"))    # tensors in lists and tables too: each process has its own device

    def receive(self) -> tuple:
        """What the first process sends next."""
        return self._broadcast(None)

    def gather(self, mine: dict, device: torch.device | str) -> dict:
        from accelerate.utils import gather_object

        theirs = gather_object([{key: row.cpu() for key, row in mine.items()}])
        return {key: row.to(device) for rows in theirs for key, row in rows.items()}

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        from accelerate.utils import reduce

        total = reduce(torch.cat([tensor.detach().flatten().float().to(self._state.device) for tensor in tensors]), "sum")
        for tensor, part in zip(tensors, total.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))

    def agree(self, make_known: Callable[[], None]) -> None:
        if self.leads:
            try:
                make_known()
            except BaseException:
                self._broadcast(False)
                raise
            self._broadcast(True)
        elif not self._broadcast(None):
            raise Stopped

    def dismiss(self) -> None:
        """There is no more work: the others end."""
        self.send("end")
        self.leave()

    def leave(self) -> None:
        """Exchange nothing any more. Left to the end of Python, gloo's threads now and then let go of a tensor too late and abort the process."""
        self._state.destroy_process_group()

    def _broadcast(self, message: Any) -> Any:
        from accelerate.utils import broadcast_object_list

        return broadcast_object_list([message])[0]


ALONE = Team()
