"""The product's promise in one piece, in a browser, on the real model: chat, rate, train, and the new version takes over while another tab streams."""

import re
import time
from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import expect

from tests.support.browser_fixtures import ChatServer, contribute, finished, open_chat, sign_in, write

TRAINING_SECONDS = 420
LONG_REPLY_MS = 240_000


@pytest.mark.real
@pytest.mark.browser
@pytest.mark.timeout(1200)
def test_a_person_rates_a_maintainer_trains_and_the_version_changes_while_another_tab_streams(person, real_base, tmp_path):
    with ChatServer(tmp_path / "state", real_base, learner="true", train_every_ratings=0, max_new_tokens=600, temperature=1.2) as server:
        context = person()
        page = open_chat(context, server)
        for number, question in enumerate(("Name three fruits.", "What is rain?")):
            write(page, question)
            page.wait_for_function("""() => {
                const reply = [...document.querySelectorAll('.reply')].pop();
                return reply.getAttribute('aria-busy') === 'false' || reply.querySelector('.reply-body').innerText.length > 80;
            }""")
            page.evaluate("document.querySelector('[aria-label=\"Stop this reply\"]')?.click()")      # a short reply may have ended by itself
            finished(page)
            reply = page.locator(".turn").nth(number)
            reply.get_by_role("button", name=("Good reply", "Bad reply")[number]).click()
            reply.get_by_role("radio", name=("5 of 5 stars", "1 of 5 stars")[number]).click()
            expect(reply.locator(".rating-note")).to_have_text("Saved")

        contribute(page)
        maintainer = sign_in(person(), server)
        expect(maintainer.locator(".big-number")).to_have_text("4")
        maintainer.get_by_role("button", name="Start training").click()
        expect(maintainer.get_by_role("progressbar")).to_be_visible(timeout=60_000)

        # Training gives way to people who chat, so the other tab begins only when the candidate is about to be published. It
        # keeps a reply coming until the new version is there; a reply that ends by itself is followed by the next.
        talker = person()
        talking = open_chat(talker, server)
        live = talking.locator(".version-pill .pill-version")
        deadline = time.monotonic() + TRAINING_SECONDS
        while (run := server.store.last_run(real_base.id)) is None or (run.state == "running" and run.progress.stage != "publish"):
            assert time.monotonic() < deadline, run
            time.sleep(0.2)
        while live.inner_text() == "base model":
            if not talking.locator(".reply-body.writing").count():
                write(talking, "Tell me a very long story about a journey around the world, with many chapters.")
            assert time.monotonic() < deadline, "the version does not change"
            time.sleep(0.2)
        live_at = datetime.now(UTC)
        expect(live).to_have_text("version 1")
        expect(page.locator(".version-pill .pill-version")).to_have_text("version 1")
        talking.locator(".turn").last.locator('.reply[aria-busy="false"]').wait_for(timeout=LONG_REPLY_MS)
        rater = server.rater_of(talker)
        replies = [turn.replies[0] for turn in server.store.conversation(server.store.conversations(rater)[0].id).turns]
        for reply, body in zip(replies, talking.locator(".reply-body").all(), strict=True):
            assert reply.state == "done" and reply.finish_reason in ("stop", "length")
            assert len(reply.completion_ids) == len(reply.behavior_logprobs) > 0
            assert letters(reply.text)[-12:] == letters(body.inner_text())[-12:]
        published = datetime.fromisoformat(server.store.promotions(real_base.id)[0].created_at)
        print(f"\nfrom publication to the page of somebody who is being answered: {(live_at - published).total_seconds():.1f} s")
        ends = [datetime.fromisoformat(reply.started_at) + timedelta(seconds=reply.seconds) for reply in replies if reply.version == 0]
        assert max(ends) > published, "no reply of the base model was being written when version 1 was published"

        write(talking, "And now?")
        expect(talking.locator(".reply-version").last).to_have_text("Version 1")

        expect(maintainer.locator("[data-version='1'] .mark-live")).to_be_visible()
        page.reload()
        for number in range(2):
            turn = page.locator(".turn").nth(number)
            expect(turn.get_by_role("button", name=("Good reply", "Bad reply")[number])).to_have_attribute("aria-pressed", "true")
            expect(turn.get_by_role("radio", name=("5 of 5 stars", "1 of 5 stars")[number])).to_have_attribute("aria-checked", "true")
        run = server.store.last_run(real_base.id)
        assert (run.state, run.trigger, run.version) == ("published", "maintainer", 1)
        for rated in server.store.rated_replies(real_base.id):
            [receipt] = server.store.receipts(rated.reply.id)
            liked = rated.ratings[0].value == 1
            assert (receipt.logprob_after > receipt.logprob_before) == liked == (receipt.reward > 0)


def letters(text: str) -> str:
    """What markdown leaves alone."""
    return re.sub(r"[\W\d_]", "", text)
