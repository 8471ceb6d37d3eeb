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
