"""From how many nats per token a reply counts as nonsense: what one in fifty of the base model's own replies of that length exceeds.

A short reply's mean is spread more widely than a long one's, so it is compared with the first as many tokens of the others. One bound
for all lengths struck a quarter of short replies that were sound, and pushed the policy back to long ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

DEVIATIONS = 2.05
"""A normal distribution leaves 2% beyond so many standard deviations."""
FEWEST = 16
"""Beyond the length that so many of the replies have, the bound is that of this length."""


class Nonsense:
    """Args: logprobs: (N,) nats of a reply's N tokens under the base model, one per reply. Fewer than two replies bound nothing."""

    def __init__(self, logprobs: Iterable[Tensor] = ()) -> None:
        self._sums = [-row.double().cumsum(0) for row in logprobs if len(row)]
        lengths = sorted((len(row) for row in self._sums), reverse=True)
        self._reach = lengths[min(FEWEST, len(lengths)) - 1] if lengths else 0

    def deviations(self, logprobs: Tensor) -> float:
        """How many standard deviations less likely per token than others of its length this reply is; negative where it is likelier."""
        cut = min(len(logprobs), self._reach)
        if not cut:
            return 0.0
        means = torch.stack([row[cut - 1] / cut for row in self._sums if len(row) >= cut]) if self._sums else torch.zeros(0)
        spread = float(means.std()) if len(means) > 1 else math.inf
        return (-float(logprobs.mean()) - float(means.mean())) / max(spread, 1e-6) if math.isfinite(spread) else 0.0

    def strikes(self, logprobs: Tensor) -> bool:
        """Whether this reply is nonsense."""
        return self.deviations(logprobs) > DEVIATIONS
