"""`python -m learner` in single precision throughout, so that numbers can be compared."""

import sys

import torch

import learner.policy
from learner.__main__ import main

learner.policy.fast_dtype = lambda device: torch.float32
sys.exit(main(sys.argv[1:]))
