"""A shared place with a wrong URL, that does not answer, or that holds a damaged shard: said in a sentence, and nothing is lost."""

import pytest

from data.errors import BadSetting
from data.store.shards import BadShard
from data.sync.place import PlaceUnreachable, SharedPlace
from tests.support.hosts import hosts, place, rounds, said_everything  # noqa: F401


@pytest.mark.parametrize("url, says", [("nowhere", "no URL"), ("nope://x/y", "cannot be used")])
def test_a_url_that_cannot_be_used_is_one_sentence(url, says):
    with pytest.raises(BadSetting, match=says):
        SharedPlace(url)


def test_a_place_that_does_not_answer_is_tried_again_and_nothing_is_lost(hosts, place):
    a, _, learner = hosts
    said_everything(a)
    place.write_text("in the way")
    with pytest.raises(PlaceUnreachable, match="tried again later"):
        a.sync.round()
    place.unlink()
    rounds(a, learner)
    assert learner.trained() == a.trained()


def test_a_damaged_shard_keeps_its_own_host_waiting_and_no_other_and_is_said(hosts, place):
    a, b, learner = hosts
    said_everything(a), said_everything(b)
    rounds(a, b)
    victim = next((place / "feedback" / a.store.host_id()).rglob("*.jsonl.gz"))
    whole = victim.read_bytes()
    victim.write_bytes(whole[:-4])
    with pytest.raises(BadShard, match="damaged"):
        learner.sync.round()
    assert learner.trained() == b.trained()
    victim.write_bytes(whole)
    rounds(learner)
    assert learner.trained() == {**a.trained(), **b.trained()}


def test_what_a_file_manager_leaves_in_the_shared_folder_is_no_host_and_in_nobodys_way(hosts, place):
    a, _, learner = hosts
    said_everything(a)
    rounds(a, learner)
    block = place / "feedback" / a.store.host_id() / "000000"
    (half,) = [shard.with_name(f".{shard.name}-0a1b2c3d") for shard in block.iterdir()]
    strays = [folder / name for folder in (place, place / "feedback", block.parent, block) for name in (".DS_Store", "Thumbs.db")]
    for stray in (*strays, half, place / "feedback" / ("0" * 16), place / "versions" / ("f" * 16)):
        stray.parent.mkdir(exist_ok=True)
        stray.write_text("stray")
    (block / ".AppleDouble").mkdir()
    a.store.delete_everything("me")
    said_everything(a, "you")
    learner.publish()
    rounds(a, learner, a)
    assert learner.trained() == a.trained() != {} and a.store.live_version("base") == 1
    assert not half.exists() and all(stray.exists() for stray in strays)
