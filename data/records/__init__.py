"""The nouns: frozen records that the chat app and the learner exchange through the store."""

from data.records.chat import IMPORTED, TASKS, Conversation, Generated, HistoryEntry, Message, Reply, ReplyOutline, Sampling, Task, Turn
from data.records.feedback import Comparison, Correction, Erasure, RatedReply, Rating, RatingKind, Reasons, SecondOpinion
from data.records.training import BASE_VERSION, AskingHeads, BaseModel, CorrectionReceipt, Outcome, Progress, Promotion, ReceiptRow, Run, Version

__all__ = [
    "AskingHeads", "BASE_VERSION", "BaseModel", "Comparison", "Conversation", "Correction", "CorrectionReceipt", "Erasure",
    "Generated", "HistoryEntry", "IMPORTED", "Message", "Outcome", "Progress", "Promotion", "RatedReply", "Rating", "RatingKind",
    "Reasons", "ReceiptRow", "Reply", "ReplyOutline", "Run", "Sampling", "SecondOpinion", "TASKS", "Task", "Turn", "Version"]
