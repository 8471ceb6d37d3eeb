"""What every serving engine promises. Token ids in, token ids out; text is somebody else's business."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from data.errors import Busy, ChatError
from data.records import Generated, Sampling


class VersionNotLoaded(ChatError):
    """This engine does not hold that version, or is letting go of it."""


class EngineFailed(ChatError):
    """The engine broke while it was at work; the sentence says what it said."""


class EngineDied(EngineFailed):
    """Its process ended, whatever it was asked: it was killed, or there was no memory left."""


class EngineAway(Busy):
    """The engine is a server elsewhere that cannot be used at the moment; it is the fault of no version."""


class ReplyStream(Protocol):
    """One reply on its way."""

    def __iter__(self) -> Iterator[list[int]]:
        """Newly sampled token ids, in order, in batches as they come; ends with the reply. To be walked once.

        Raises: EngineFailed: after everything that was sampled before the engine broke.
        """
        ...

    def cancel(self) -> None:
        """Ask for an early end, from any thread; the iterator ends soon after. Harmless when the reply is over."""
        ...

    def result(self) -> Generated:
        """What was sampled, once the iterator has ended (also by an error: then `finish_reason` is `error`).

        Raises: RuntimeError: the reply is still on its way.
        """
        ...


class Engine(Protocol):
    """Several versions of one base model, several replies of each at a time."""

    name: str

    def stream(self, prompt_ids: Sequence[int], sampling: Sampling, version: int) -> ReplyStream:
        """Start a reply to `prompt_ids` by `version`; returns at once.

        A reply that would outgrow the context is cut there (`finish_reason` `length`).
        Raises: VersionNotLoaded; EngineAway; MessageTooLong: the prompt leaves no room for a reply.
        """
        ...

    def load(self, version: int, adapter: Path | None) -> None:
        """Make `version` servable, beside those that are; blocks for seconds, running replies go on. Nothing to do when it is.

        Args:
            adapter: a peft folder; None for version 0, the base model alone.
        Raises: ModelUnavailable; AdapterMismatch; CorruptAdapter; StorageFull; EngineFailed; EngineAway. Then nothing has changed.
        """
        ...

    def unload(self, version: int) -> None:
        """Refuse new replies by `version` from now on, and free it when its last running reply has ended. Nothing to do when it is not there."""
        ...

    def loaded(self) -> tuple[int, ...]:
        """Versions that take new replies, ascending."""
        ...

    def close(self) -> None:
        """Cancel every reply and free everything; returns when the workers are gone."""
        ...
