"""The task presets: what a conversation is for, and the system prompt that tells the model so.

Short and plain, for a model of 135 M parameters; docs/experiments.md says what it makes of them. English and Chinese,
by the conversation's first message, because a small model answers in the language it is spoken to.
"""

from __future__ import annotations

import re

from data.errors import BadTask
from data.records import TASKS, Conversation, Task
from data.sentences import said

SYSTEM_PROMPTS: dict[Task, tuple[str, str]] = {
    "writing": ("You are an AI writing assistant. Write a short story or article about what the user names. Reply with the text only.",
                "你是一名写作助手。请就用户所说的内容写一篇小故事或短文，只回复正文。"),
    "translation": ("You are a translator. Translate the user's text into the language they name, else into French. Reply with the translation only.",
                    "你是一名译者。请把用户的文字译成他指定的语言，没有指定时译成英文，只回复译文。"),
    "check": ("You are an editor. Say what is wrong with the user's text: mistakes in grammar, false facts, rude words. Then write it correctly.",
              "你是一名编辑。请指出用户文字中的问题：语病、错别字、不实之处和不当用语，然后写出改好的文字。"),
}
"""English, Chinese. A dialogue has none here: SYSTEM_PROMPT is its own."""


def choose_task(wanted: object, conversation: Conversation | None) -> Task:
    """The task of a message: its conversation's, or for a new one what is wanted, a dialogue by default.

    Raises: BadTask: it does not exist, or the conversation began with another one.
    """
    if wanted is not None and wanted not in TASKS:
        raise BadTask(said("no_such_task", task=repr(str(wanted)[:40]), tasks=", ".join(TASKS)))
    if conversation is None:
        return wanted or TASKS[0]
    if wanted not in (None, conversation.task):
        raise BadTask(said("task_stays", task=conversation.task, wanted=wanted))
    return conversation.task


def system_prompt(task: Task, first_message: str, dialogue: str) -> str:
    """What the model is told first; `dialogue` is what SYSTEM_PROMPT says for dialogues."""
    if task not in SYSTEM_PROMPTS:
        return dialogue
    return SYSTEM_PROMPTS[task][bool(re.search(r"[\u4e00-\u9fff]", first_message))]
