"""Shards that no host of ours would write: refused in a sentence, and they harm nothing and keep nobody else waiting."""

import gzip
import json

import pytest

from data.store.shards import BadShard, is_plain_name, sha256_of_bytes, shard_path
from tests.support.hosts import Host, hosts, place, rounds, said_everything, write_shard  # noqa: F401

STRANGER = "0123456789abcdef"


def version(folder: str, number: int, **other) -> dict:
    """As a learner's host tells it, given up already and so without files."""
    return {"type": "version", "folder": folder, "number": number, "base_model": "base", "sha256": "0" * 64, "run_id": None, "parent": None,
            "created_at": "2026-01-01T00:00:00.000000+00:00", "note": "", "receipts": [], "corrected": [], "config": None, **other}


@pytest.mark.parametrize("name, plain", [
    ("base-0123456789ab-a1b2c3", True), ("模型-1", True), ("a..b", True), ("", False), (".", False), ("..", False), ("../x", False), ("a/b", False), ("/etc", False),
    ("a\\b", False), ("a\0b", False), ("a\nb", False), (".writing-1", False), ("a" * 300, False), (None, False), (["a"], False)])
def test_a_folder_is_named_by_one_plain_name(name, plain):
    assert is_plain_name(name) is plain


@pytest.mark.parametrize("way_out", ["..", "../../victim", "{victim}"])
def test_no_shard_can_remove_or_write_a_folder_outside_of_the_adapters(tmp_path, place, way_out):
    a, victim = Host(tmp_path / "hosts" / "a", f"file://{place}", keep_versions=1), tmp_path / "victim"
    victim.mkdir()
    (victim / "kept").write_text("kept")
    folder = way_out.format(victim=victim)
    write_shard(place, "versions", STRANGER, 1, [version(folder, 1), version("filler-2", 2), version("filler-3", 3)])
    write_shard(place, "versions", STRANGER[::-1], 1, [version(folder + "/new", 1, config="{}")])
    said_everything(a)
    with pytest.raises(BadShard, match="not the name of one"):
        a.sync.round()
    assert (victim / "kept").read_text() == "kept" and [*victim.iterdir()] == [victim / "kept"] and (a.folder / "chat.db").exists()
    assert a.store.versions("base") == [] and list((place / "feedback").iterdir()), "what people said left all the same"
    with pytest.raises(BadShard):
        a.registry.place(folder, {"adapter_config.json": b"{}"})
    with a.store.write() as db:                                        # as taken in before names were looked at
        for number, name in enumerate((folder, "filler-2", "filler-3"), 1):
            db["versions"].insert({"number": number, "base_model": "base", "sha256": "", "folder": name, "parent": 0, "created_at": ""})
    assert a.registry.remove_old("base", 1) and (victim / "kept").exists() and (a.folder / "chat.db").exists()


def without(record: dict, name: str) -> dict:
    return {key: value for key, value in record.items() if key != name}


NEWER_SAMPLING = {"temperature": 0.8, "top_p": 0.95, "top_k": 50, "max_new_tokens": 320, "seed": 0, "min_p": 0.1}


@pytest.mark.parametrize("odd, says", [
    (lambda r: {**r, "sampling": NEWER_SAMPLING}, "sampled with min_p, which this host does not know, and is to be updated"),
    (lambda r: {**r, "task": "poetry"}, "task is 'poetry'"),
    (lambda r: {**r, "type": "drawing"}, "does not know, 'drawing'"),
    (lambda r: without(r, "type"), "does not know, 'None'"),
    (lambda r: without(r, "sampling"), "KeyError: 'sampling'"),
    (lambda r: {**r, "sampling": [1]}, "sampling is"),
    (lambda r: {**r, "sampling": {"temperature": float("nan")}}, "temperature is 'nan'"),
    (lambda r: {**r, "prompt_ids": [1, -2]}, "prompt_ids is"),
    (lambda r: {**r, "prompt_ids": [1, 2**40]}, "prompt_ids is"),
    (lambda r: {**r, "completion_ids": ["4"]}, "completion_ids is"),
    (lambda r: {**r, "completion_ids": []}, "number of tokens"),
    (lambda r: {**r, "behavior_logprobs": [-1.0]}, "number of tokens"),
    (lambda r: {**r, "behavior_logprobs": [-1.0, None]}, "behavior_logprobs is"),
    (lambda r: {**r, "behavior_logprobs": [-1.0, -(10**400)]}, "OverflowError"),
    (lambda r: {**r, "logprobs_temperature": "hot"}, "logprobs_temperature is"),
    (lambda r: {**r, "text": {"a": 1}}, "text is"),
    (lambda r: {**r, "id": ["x"]}, "id is"),
    (lambda r: {**r, "started_at": "yesterday"}, "ValueError"),
])
def test_a_reply_that_no_run_could_read_keeps_its_host_waiting_and_no_other(hosts, place, odd, says):
    a, b, learner = hosts
    said_everything(a), said_everything(b)
    a.store.pack_feedback()
    records = a.store.shard_records("feedback", 1)
    write_shard(place, "feedback", STRANGER, 1, [odd(record) if record["type"] == "reply" else record for record in records])
    learner.publish()
    rounds(b)
    with pytest.raises(BadShard, match="cannot be taken in .*; run the same version") as error:
        learner.sync.round()
    assert says in str(error.value) and f"Shard 1 of host {STRANGER}" in str(error.value)
    rounds(b)
    assert learner.trained() == b.trained() and b.store.live_version("base") == 1, "others were gathered, and what was published left"
    (place / "feedback" / STRANGER).rename(place / "feedback" / "gone")
    rounds(a, learner)
    assert learner.trained() == {**a.trained(), **b.trained()}


@pytest.mark.parametrize("source, odd", [
    ("ratings", {"value": 7}), ("ratings", {"kind": "claps"}), ("ratings", {"value": 2**70}), ("ratings", {"uid": None}), ("reasons", {"tags": "tags"}), ("reasons", {"tags": "{}"}),
    ("corrections", {"text": 5}), ("comparisons", {"preferred": "both"}), ("comparisons", {"first_id": None})])
def test_an_odd_event_is_refused_with_its_whole_shard(hosts, place, source, odd):
    a, _, learner = hosts
    said_everything(a)
    a.store.pack_feedback()
    write_shard(place, "feedback", STRANGER, 1, [{**record, **odd} if record["type"] == source else record for record in a.store.shard_records("feedback", 1)])
    with pytest.raises(BadShard, match="cannot be taken in"):
        learner.sync.round()
    assert learner.trained() == {} and not learner.store.rows("SELECT id FROM replies")


@pytest.mark.parametrize("odd", [
    lambda r: without(r, "config"), lambda r: without(r, "folder"), lambda r: {**r, "number": 0}, lambda r: {**r, "number": 2**62}, lambda r: {**r, "sha256": "../x"},
    lambda r: {**r, "receipts": None}, lambda r: {**r, "receipts": [{"reply_id": "x"}]}, lambda r: {**r, "config": 5}, lambda r: {**r, "config": "\ud800"}, lambda r: {**r, "run_id": "unknown"},
    lambda r: {**r, "type": "promotion"}, lambda r: {"type": "erased"}])
def test_an_odd_version_keeps_nobody_from_sending_and_from_following_another_learner(hosts, place, odd):
    a, _, learner = hosts
    said_everything(a)
    learner.publish()
    rounds(learner)
    write_lone(place, odd(version("stray", 5)))
    with pytest.raises(BadShard, match="cannot be taken in|not the name of one"):
        a.sync.round()
    with pytest.raises(BadShard):
        learner.sync.round()
    assert learner.trained() == a.trained() != {} and a.store.live_version("base") == 1
    assert [folder.name for folder in a.registry.folder.iterdir()] == [a.store.version(1).folder]


def write_lone(place, record: dict) -> None:
    """With half a surrogate pair in it too, which our own encoder does not write."""
    content = gzip.compress((json.dumps(record) + "\n").encode())
    path = place / "versions" / STRANGER / shard_path(1, sha256_of_bytes(content))
    path.parent.mkdir(parents=True)
    path.write_bytes(content)


def test_what_a_newer_learner_says_of_its_run_beside_what_is_known_here_is_passed_over(hosts, place):
    a, _, learner = hosts
    learner.publish()
    learner.store.pack_versions()
    run, *others = learner.store.shard_records("versions", 1)
    newer = {**run, "progress": json.dumps({**json.loads(run["progress"]), "watts": 300}), "mood": "good"}
    write_shard(place, "versions", STRANGER, 1, [newer, *({**record, "config": None, "colour": "red"} for record in others)])
    rounds(a)
    assert a.store.run(run["id"]).progress.stage == "start" and len(a.store.versions("base")) == 1
    assert a.store.last_run("base").id == run["id"]


def test_no_reply_takes_the_place_of_a_conversation_here(hosts, place):
    a, _, learner = hosts
    mine, _ = said_everything(learner)
    said_everything(a)
    a.store.pack_feedback()
    reply = next(record for record in a.store.shard_records("feedback", 1) if record["type"] == "reply")
    write_shard(place, "feedback", STRANGER, 1, [{**reply, "id": mine.conversation_id}])
    with pytest.raises(BadShard, match="that of something else here"):
        learner.sync.round()
    assert learner.store.conversation(mine.conversation_id, "me").turns[0].message == "my question"
