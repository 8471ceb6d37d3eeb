"""Every rater's part of a reward, as models of the ratings hear it."""

from __future__ import annotations

import pytest
import torch

from learner.feedback.rewards import rewards
from learner.reward.reliability import People, Reliability
from learner.reward.voices import fit_on_voices, voices_of
from tests.learner.feedback.test_feedback_rewards import compared, edited, reply
from tests.learner.feedback.test_rewards import rated


def test_who_has_a_level_is_heard_as_they_spoke_and_of_others_the_habits_are_taken_out():
    busy = [rated(f"a{i}", ("ann", "thumb", 1 if i % 2 else -1)) for i in range(10)]
    found = rewards([*busy, rated("both", ("ann", "thumb", 1), ("bob", "stars", 2)), rated("last", ("bob", "stars", 4))])
    voices = voices_of(found, People({"ann": Reliability(1.0, levels={"dialogue": -0.7}), "bob": Reliability(1.0, levels={"writing": 2.0})}))
    assert voices.rows == [*range(10), 10, 10, 11]
    assert voices.values[:11].tolist() == [-1.0, 1.0] * 5 + [1.0] and voices.levels[:11].tolist() == pytest.approx([-0.7] * 11)
    bob = [found[10].voices[1], found[11].voices[0]]                                  # his level is told in another task alone
    assert voices.values[11:].tolist() == pytest.approx([voice.levelled for voice in bob]) and voices.levels[11:].tolist() == [0.0, 0.0]
    assert bob[0].levelled != bob[0].value == -0.5
    weights = torch.tensor([voice.weight for one in found for voice in one.voices])
    assert torch.allclose(voices.weights, weights / weights.mean())


@pytest.mark.parametrize("seed", range(4))
def test_a_coins_ratings_are_no_surer_for_a_visitor_with_one_thumb(seed):
    """One of 192 had a quarter of all weight, and nothing else was as if there were 15 ratings in all."""
    generator = torch.Generator().manual_seed(seed)
    style, coin = torch.randn(193, 12, generator=generator), torch.randint(2, (192,), generator=generator).tolist()
    said = [*(("ann", 1 if side else -1) for side in coin), ("visitor", 1)]
    found = rewards([rated(str(i), (rater, "thumb", value)) for i, (rater, value) in enumerate(said)])
    fit = fit_on_voices(found, People(), torch.zeros(193, 0), style, list(range(193)), 0).fit
    alone = fit_on_voices(found[:192], People(), torch.zeros(192, 0), style[:192], list(range(192)), 0).fit
    assert fit.nothing == pytest.approx(alone.nothing, abs=0.1) and not fit.sure


def test_a_comparison_moves_what_is_heard_as_far_as_it_moved_the_reward():
    """Both were liked; the first is preferred."""
    alone = rewards([reply("a", ("ann", "thumb", 1)), reply("b", ("ann", "thumb", 1))])
    found = rewards(compared([reply("a", ("ann", "thumb", 1)), reply("b", ("ann", "thumb", 1))], (0, 1, "first")))
    values = voices_of(found, People({"ann": Reliability(1.0, levels={"dialogue": 0.3})})).values.tolist()
    moved = found[1].reward - alone[1].reward
    assert moved < -0.1 and values == pytest.approx([1.0, 1.0 + moved])


def test_nobodys_level_has_a_part_in_a_text_that_somebody_wrote_or_in_a_reply_that_was_only_compared():
    original = reply("a", corrected="w x y z")
    found = rewards([*compared([original, reply("b")], (1, 0, "first")), edited(original)])
    people = People({rater: Reliability(1.0, levels={"dialogue": 2.0}) for one in found for voice in one.voices if (rater := voice.rater_id)})
    heard = dict(zip(voices_of(found, people).rows, voices_of(found, people).levels.tolist(), strict=True))
    assert [one.voices[0].rater_id is None for one in found] == [False, True, True] and heard == {0: 2.0, 1: 0.0, 2: 0.0}
