"""Errors a person can act on. `str(error)` is one sentence: what happened, why, and what to do next."""

from __future__ import annotations

from data.sentences import Said, sentence


class ChatError(Exception):
    """Base of every error whose sentence may be shown to the person who caused it.

    Made of what data/sentences.py says in every language; only what a terminal alone shows is plain English.
    """

    def __init__(self, what: Said | str) -> None:
        self.said = what if isinstance(what, dict) else None
        super().__init__(sentence(what) if isinstance(what, dict) else what)

    def told(self) -> dict:
        """For a page, which says it in its own language."""
        return {"kind": type(self).__name__, "error": str(self), "said": self.said}


class BadSetting(ChatError):
    """A setting is unknown or has a value that cannot be used."""


class UnknownConversation(ChatError):
    """No such conversation, or it belongs to somebody else (the two are not told apart on purpose)."""


class UnknownReply(ChatError):
    """No such reply."""


class NotYourReply(ChatError):
    """The reply was shown to somebody else."""


class BadRating(ChatError):
    """The rating's kind or value is not one of those that exist."""


class BadTask(ChatError):
    """No such task, or another one than the conversation began with."""


class EmptyMessage(ChatError):
    """The message has no text."""


class MessageTooLong(ChatError):
    """The message alone does not fit the model's context."""


class UnknownVersion(ChatError):
    """No such adapter version."""


class EndedMeanwhile(ChatError):
    """Another learner has ended the run whose version was to be published: this one was asleep for too long."""


class DeletedMeanwhile(ChatError):
    """Somebody deleted what a version was trained on while it was trained; it is not published."""


class NoLearnerHere(ChatError):
    """This host follows the versions that a learner on another one publishes."""


class NothingNewer(ChatError):
    """No version that is newer than a reply's own answers now."""


class AdapterMismatch(ChatError):
    """The adapter does not fit the base model."""


class CorruptAdapter(ChatError):
    """The adapter's files are missing or are not the ones that were published."""


class RemovedVersion(CorruptAdapter):
    """The adapter's files were removed when newer versions took its place."""


class ModelUnavailable(ChatError):
    """The base model cannot be fetched, read or loaded."""


class StorageFull(ChatError):
    """The disk that holds the state folder is full."""


class Busy(ChatError):
    """Somebody else holds what is needed; trying again later helps."""


class NotAllowed(ChatError):
    """Only a signed-in maintainer may do this."""
