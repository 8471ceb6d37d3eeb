"""`python -m learner` in single precision throughout, so that numbers can be compared; says how much of a sharded model's layers this process holds."""

import sys

import torch

import learner.model.policy
from learner.__main__ import main
from learner.model.sharding import shard_layers


def and_say_how_much(model, decoder, *rest) -> None:
    shard_layers(model, decoder, *rest)
    print("holds", sum(weight.to_local().numel() for weight in decoder.layers.parameters() if hasattr(weight, "to_local")), file=sys.stderr)


learner.model.policy.shard_layers = and_say_how_much
learner.model.policy.fast_dtype = lambda device: torch.float32
sys.exit(main(sys.argv[1:]))
