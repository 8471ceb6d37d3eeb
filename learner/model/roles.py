"""Who the policy is at an instant, in a form that another process can take on: the team's passes are made by all alike."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from learner.model.policy import Policy


class Role(NamedTuple):
    """The base model alone where both are None."""

    weights: list[Tensor] | None = None
    """Of the adapter in training."""
    version: dict[str, bytes] | None = None
    """The files of a published version, by name: the folder is the first process's own."""


def role_of(policy: Policy) -> Role:
    if policy.acting == "base":
        return Role()
    if policy.acting == "candidate":
        return Role(weights=policy.weights())
    return Role(version={file.name: file.read_bytes() for file in policy.acting.iterdir() if file.is_file()})


@contextmanager
def in_role(policy: Policy, role: Role) -> Iterator[None]:
    if role.weights is not None:
        policy.set_weights(role.weights)
        yield
    elif role.version is not None:
        with tempfile.TemporaryDirectory() as folder:
            for name, content in role.version.items():
                (Path(folder) / name).write_bytes(content)
            with policy.behaving_as(Path(folder)):
                yield
    else:
        with policy.reference():
            yield
