"""The tutorial this project starts from: its worked example end to end, and its gradient formula."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path

import pytest
import torch

import data.importing as importing
from data.adapters import AdapterRegistry
from data.base_models.tokenizer import ChatTokenizer
from data.errors import BadRating
from data.importing import BadImport, end_token, import_conversations
from learner.config import LearnerConfig
from learner.model.batches import Example, make_batch
from learner.model.policy import Policy
from learner.runs.run import train
from learner.training.estimator import policy_gradient_loss
from tests.support.conversations import open_store

TUTORIAL = Path(__file__).parent.parent.parent / "data" / "examples" / "tutorial.json"


def test_the_dialogue_about_overtime_rated_three_of_five_is_imported_and_trained_on(tmp_path, tiny_base):
    store, tokenizer = open_store(tmp_path), ChatTokenizer(tiny_base.folder)
    done = import_conversations(store, tiny_base, tokenizer, TUTORIAL)
    assert (done.conversations, done.replies) == (1, 2)

    first, second = store.rated_replies(tiny_base.id)
    assert first.message == "你好，你最近怎么样？" and second.reply.text == "哦，那你要注意休息啊，身体是革命的本钱。"
    assert tokenizer.decode(second.reply.completion_ids) == second.reply.text
    assert second.reply.completion_ids[-1] in tokenizer.eos_ids
    assert "最近加班比较多" in tokenizer.decode(second.reply.prompt_ids) and "我很好" in tokenizer.decode(second.reply.prompt_ids)
    assert [(r.kind, r.value) for rated in (first, second) for r in rated.ratings] == [("stars", 3), ("stars", 3)]

    assert [row["version"] for row in store.recent_feedback(tiny_base.id, 9)] == [None, None]     # not the base model's words

    run = train(store, AdapterRegistry(store, tmp_path / "adapters"), tiny_base, LearnerConfig(), trigger="shell")
    assert run.state == "published" and run.report["ratings_used"] == 2 and run.report["data"]["stars"]["3"] == 2
    receipt, = store.receipts(second.reply.id)
    assert receipt.reward == 0.0                                      # 3 of 5 is the middle of the scale
    assert receipt.advantage == pytest.approx(0.15)                   # 0 - (0 - margin)


def test_with_the_raw_score_of_three_the_gradient_is_three_times_grad_log_pi(tmp_path, tiny_base):
    """The tutorial's formula: grad J = R grad log pi, with R = 3, summed over the tokens of the reply."""
    store, tokenizer = open_store(tmp_path), ChatTokenizer(tiny_base.folder)
    import_conversations(store, tiny_base, tokenizer, TUTORIAL)
    reply = store.rated_replies(tiny_base.id)[1].reply
    policy = Policy(tiny_base, dtype=torch.float32, device="cpu")
    batch = make_batch([Example(0, reply.prompt_ids, reply.completion_ids, 1.0)])

    def gradients(loss_from_logprobs) -> list[torch.Tensor]:
        for parameter in policy.parameters():
            parameter.grad = None
        loss_from_logprobs(policy.scores(batch).logprobs).backward()
        return [parameter.grad.clone() for parameter in policy.parameters()]

    log_pi = gradients(lambda logprobs: logprobs.sum())
    rated = gradients(lambda logprobs: policy_gradient_loss(
        logprobs, logprobs.detach(), logprobs.detach(), torch.tensor([3.0]), torch.ones(1), batch.completion_mask,
        trust_region=0.2, max_length=1, batch_size=1).loss)
    assert sum(float(g.abs().sum()) for g in log_pi) > 0
    for three, one in zip(rated, log_pi, strict=True):
        assert torch.allclose(-three, 3 * one, rtol=1e-3, atol=1e-3)


def test_thumbs_and_stars_may_both_be_imported_and_the_same_file_adds_nothing_twice(tmp_path, tiny_base):
    store, tokenizer = open_store(tmp_path), ChatTokenizer(tiny_base.folder)
    file = tmp_path / "two.json"
    talk = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    file.write_text(json.dumps([{"messages": talk, "rating": {"thumb": -1}}, {"messages": talk, "rating": {"thumb": 1, "stars": 4}, "rater": "bob"}]))
    assert import_conversations(store, tiny_base, tokenizer, file).replies == 2
    again = import_conversations(store, tiny_base, tokenizer, file)
    assert (again.replies, again.already_there) == (0, 2)
    ratings = [sorted((r.kind, r.value) for r in rated.ratings) for rated in store.rated_replies(tiny_base.id)]
    assert ratings == [[("thumb", -1)], [("stars", 4), ("thumb", 1)]]
    assert len({r.rater_id for rated in store.rated_replies(tiny_base.id) for r in rated.ratings}) == 2


def test_a_reply_ends_with_the_token_its_chat_template_ends_messages_with(tiny_base):
    tokenizer = ChatTokenizer(tiny_base.folder)
    assert end_token(tokenizer) == (2,)                               # <|im_end|>


GOOD = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}], "rating": {"stars": 3}}


@pytest.mark.parametrize(("content", "error", "words"), [
    ("{not json", BadImport, "line 1"),
    ('{"messages": []}', BadImport, "not a list of conversations"),
    (json.dumps([GOOD, {"rating": {"stars": 3}}]), BadImport, "conversation 2"),
    (json.dumps([GOOD, {**GOOD, "rating": {}}]), BadImport, "no rating"),
    (json.dumps([GOOD, {**GOOD, "rating": {"stars": 6}}]), BadRating, "6"),
    (json.dumps([GOOD, {**GOOD, "messages": GOOD["messages"][1:]}]), BadImport, "user's message"),
    (json.dumps([GOOD, {**GOOD, "messages": [{"role": "robot", "content": "hi"}]}]), BadImport, "not {")])
def test_a_malformed_file_is_refused_whole_with_a_sentence_that_says_where(tmp_path, tiny_base, content, error, words):
    store = open_store(tmp_path)
    file = tmp_path / "bad.json"
    file.write_text(content)
    with pytest.raises(error, match=words):
        import_conversations(store, tiny_base, ChatTokenizer(tiny_base.folder), file)
    assert store.rated_replies(tiny_base.id) == [] and store.conversations("imported") == []
    with pytest.raises(BadImport, match="cannot be read"):
        import_conversations(store, tiny_base, ChatTokenizer(tiny_base.folder), tmp_path / "none.json")


def test_a_long_file_is_written_in_parts_and_importing_it_again_adds_what_an_interrupted_import_left_out(tmp_path, tiny_base, monkeypatch):
    monkeypatch.setattr(importing, "TOGETHER", 2)
    store, tokenizer, file = open_store(tmp_path), ChatTokenizer(tiny_base.folder), tmp_path / "five.json"
    file.write_text(json.dumps([{**GOOD, "rater": f"rater {n}"} for n in (1, 2, 3, 4, 5, 5)]))
    other, there, encode = sqlite3.connect(store.path, timeout=0), [], tokenizer.encode

    def encode_while_others_write(text):
        there.append(len(store.rated_replies(tiny_base.id)))
        other.execute("BEGIN IMMEDIATE")                              # fails while somebody holds the writer's lock
        other.execute("ROLLBACK")
        if len(there) == 4:
            raise KeyboardInterrupt
        return encode(text)

    monkeypatch.setattr(tokenizer, "encode", encode_while_others_write)
    with pytest.raises(KeyboardInterrupt):
        import_conversations(store, tiny_base, tokenizer, file)
    assert there == [0, 0, 2, 2] and len(store.rated_replies(tiny_base.id)) == 2
    again = import_conversations(store, tiny_base, tokenizer, file)
    assert (again.conversations, again.replies, again.already_there) == (3, 3, 3)       # one is there twice
    assert len({rating.rater_id for rated in store.rated_replies(tiny_base.id) for rating in rated.ratings}) == 5
    other.close()


def test_an_order_of_messages_that_the_models_template_refuses_is_named_before_anything_is_written(tmp_path, tiny_base):
    store, file, folder = open_store(tmp_path), tmp_path / "talk.json", tmp_path / "strict"
    shutil.copytree(tiny_base.folder, folder)
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    config["chat_template"] = "{% if messages[0].role == 'system' %}{{ raise_exception('no system message') }}{% endif %}" + config["chat_template"]
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    file.write_text(json.dumps([GOOD, {**GOOD, "messages": [{"role": "system", "content": "Be kind."}, *GOOD["messages"]]}]))
    with pytest.raises(BadImport, match="conversation 2 of .* no system message"):
        import_conversations(store, tiny_base, ChatTokenizer(folder), file)
    assert store.rated_replies(tiny_base.id) == []
