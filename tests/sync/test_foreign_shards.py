"""Shards that no host of ours would write: refused in a sentence, and they harm nothing and keep nobody else waiting."""

import pytest

from data.store.shards import BadShard, is_plain_name
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
