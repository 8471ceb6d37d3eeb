"""Task presets: chosen when a conversation begins, told to the model by a system prompt, and the same to its end."""

import json

import pytest

from chat_app.tasks import SYSTEM_PROMPTS
from data.base_models.tokenizer import ChatTokenizer
from data.errors import BadTask
from data.importing import BadImport, import_conversations
from data.records import TASKS, Message
from data.store import Store
from tests.support.service_fixtures import Server, finished, server  # noqa: F401


def prompt_of(server, job):                                                        # noqa: F811
    return server.store.reply(job.reply_id).prompt_ids


def rendered(server, *messages):                                                   # noqa: F811
    return tuple(server.service.tokenizer.render([Message(role, text) for role, text in messages]))


def test_a_task_is_told_to_the_model_in_every_turn_and_stays_with_its_conversation(server):      # noqa: F811
    service, store, (english, _) = server.service, server.store, SYSTEM_PROMPTS["translation"]
    first = finished(service.send("me", None, "Into French: hello", task="translation"))
    again = finished(service.regenerate("me", first.conversation_id))
    assert prompt_of(server, first) == prompt_of(server, again) == rendered(server, ("system", english), ("user", "Into French: hello"))
    second = finished(service.send("me", first.conversation_id, "还有这个"))
    assert prompt_of(server, second) == rendered(server, ("system", english), ("user", "Into French: hello"), ("assistant", again.text), ("user", "还有这个"))

    service.rate("me", first.reply_id, "thumb", 1)
    assert [rated.reply.task for rated in store.rated_replies(server.base.id)] == ["translation"]
    assert store.conversation(first.conversation_id).task == store.history("me")[0].task == store.export("me")["conversations"][0]["task"] == "translation"
    store.delete_conversation(first.conversation_id, "me")
    assert store.row("SELECT task FROM conversations")["task"] == "dialogue"         # nothing is left of what it was for


def test_a_chinese_conversation_is_told_in_chinese(server):                        # noqa: F811
    job = finished(server.service.send("me", None, "太阳每天绕地球转一圈。", task="check"))
    assert prompt_of(server, job) == rendered(server, ("system", SYSTEM_PROMPTS["check"][1]), ("user", "太阳每天绕地球转一圈。"))


def test_a_dialogue_is_what_it_always_was_and_the_systems_prompt_is_its_own(tiny_base, tmp_path):
    server = Server(tiny_base, tmp_path, system_prompt="Be brief.")
    try:
        for task in (None, "dialogue"):
            assert prompt_of(server, finished(server.service.send("me", None, "hello", task=task))) == rendered(server, ("system", "Be brief."), ("user", "hello"))
        story = finished(server.service.send("me", None, "a dog", task="writing"))
        assert prompt_of(server, story) == rendered(server, ("system", SYSTEM_PROMPTS["writing"][0]), ("user", "a dog"))
    finally:
        server.close()


def test_a_task_that_does_not_exist_or_comes_too_late_is_refused_and_nothing_is_stored(server):  # noqa: F811
    with pytest.raises(BadTask, match="no task 'poetry'; use one of dialogue, writing, translation, check"):
        server.service.send("me", None, "hello", task="poetry")
    assert server.store.conversations("me") == []
    job = finished(server.service.send("me", None, "hello"))
    with pytest.raises(BadTask, match="task is dialogue and stays that; start a new conversation for check"):
        server.service.send("me", job.conversation_id, "hello", task="check")
    assert len(server.store.conversation(job.conversation_id).turns) == 1


def test_every_task_but_the_dialogue_has_a_short_prompt_in_both_languages():
    assert tuple(SYSTEM_PROMPTS) == TASKS[1:]
    assert all(english.isascii() and not chinese.isascii() and max(len(english), len(chinese)) < 160 for english, chinese in SYSTEM_PROMPTS.values())


def test_imported_conversations_may_name_their_task(tiny_base, tmp_path):
    store, file = Store(tmp_path / "chat.db"), tmp_path / "talk.json"
    talk = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}], "rating": {"stars": 3}}

    def imported(*entries):
        file.write_text(json.dumps(entries))
        return import_conversations(store, tiny_base, ChatTokenizer(tiny_base.folder), file)

    with pytest.raises(BadImport, match="conversation 2 of .* unknown task 'song'"):
        imported(talk, {**talk, "task": "song"})
    imported(talk, {**talk, "task": "writing"})
    assert [rated.reply.task for rated in store.rated_replies(tiny_base.id)] == ["dialogue", "writing"]
