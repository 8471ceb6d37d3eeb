"""The maintainer's page in Chromium: who gets in, what they see, what they change."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from chat_app.identity import Identity
from data.adapters import AdapterRegistry
from data.base_models.tokenizer import ChatTokenizer
from data.errors import CorruptAdapter, NotAllowed
from data.importing import import_conversations
from data.records import Progress
from data.sentences import reasoned, said, sentence
from tests.support.browser_fixtures import SECRET, contribute, finished, open_chat, sign_in, write

pytestmark = pytest.mark.browser

TUTORIAL = Path(__file__).parent.parent.parent / "data" / "examples" / "tutorial.json"

CALLS = {"ui_overview": {}, "ui_train": {}, "ui_stop_training": {}, "ui_make_live": {"version": 0}, "ui_roll_back": {}}


def call(context, server, page, name, payload):
    """What the server function answers when it is called over HTTP, past the page."""
    component = page.evaluate("window.gradio_config.components.find(c => c.props.elem_id === 'maintainer').id")
    return context.request.post(f"{server.url}/gradio_api/component_server", data={
        "data": payload, "component_id": component, "session_hash": "somebody", "fn_name": name}).json()


def test_nobody_but_a_maintainer_gets_anything_by_page_or_by_http(person, chat_server):
    context = person()
    page = sign_in(context, chat_server, "a wrong password")
    expect(page.locator(".sign-in .problem")).to_contain_text("Check the password")
    expect(page.locator(".training")).to_have_count(0)
    page.goto(f"{chat_server.url}/maintainer?refused=wait")
    expect(page.locator(".sign-in .problem")).to_contain_text("Try again in a few seconds")
    before = chat_server.store.waiting_request(), chat_server.store.promotions(chat_server.base.id)
    for name, payload in CALLS.items():
        answer = call(context, chat_server, page, name, payload)
        assert answer == {"ok": False, **NotAllowed(said("maintainers_only")).told()}, name
    context.add_cookies([{"name": Identity(SECRET).maintainer_cookie, "value": "maintainer", "url": chat_server.url}])
    assert call(context, chat_server, page, "ui_overview", {})["kind"] == "NotAllowed"
    assert (chat_server.store.waiting_request(), chat_server.store.promotions(chat_server.base.id)) == before


def test_a_maintainer_signs_in_sees_ratings_and_signs_out(person, chat_server):
    import_conversations(chat_server.store, chat_server.base, ChatTokenizer(chat_server.base.folder), TUTORIAL)
    chatting = open_chat(person(), chat_server)
    contribute(chatting)
    write(chatting, "What is a comet? ann@example.com asks.")
    finished(chatting)
    chatting.get_by_role("radio", name="5 of 5 stars").click()
    expect(chatting.locator(".rating-note")).to_have_text("Saved")

    reply = chatting.locator(".reply").get_attribute("data-reply")
    chat_server.store.add_correction(reply, chat_server.store.reply(reply).rater_id, "A lump of ice, says bob@example.com.")

    page = sign_in(person(), chat_server)
    expect(page.locator(".rating-list li").first).to_contain_text("Correction")
    expect(page.locator(".rating-list .rating-words").first).to_have_text("Should be: A lump of ice, says [e-mail].")
    row = page.locator(".rating-list li[data-kind='stars']").first
    expect(row).to_contain_text("5 stars")
    expect(row).to_contain_text("What is a comet? [e-mail] asks.")
    expect(row).to_contain_text("Base model ·")
    expect(page.locator(".rating-list li", has_text="你好，你最近怎么样？").first).to_contain_text("Imported ·")
    expect(page.locator(".big-number")).to_have_text(str(chat_server.store.fresh_ratings(chat_server.base.id)))
    for setting in ("Temperature", "Top-p (nucleus)", "Top-k"):
        expect(page.locator("#maintainer dt", has_text=setting)).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Password")).to_be_visible()


def test_a_run_is_asked_for_watched_and_stopped(person, chat_server):
    store, base = chat_server.store, chat_server.base
    page = sign_in(person(), chat_server)
    start, asked = page.get_by_role("button", name="Start training"), []
    page.on("request", lambda request: asked.append(request) if "ui_train" in (request.post_data or "") else None)
    start.click()
    expect(page.locator(".stage")).to_contain_text("Asked for")
    expect(start).to_be_disabled()
    expect(start).to_be_focused()
    page.keyboard.press("Enter")
    assert len(asked) == 1

    # The test takes the learner's part: its run answers the request and reports its progress.
    assert store.waiting_request() == "maintainer"
    run = store.start_run(base.id, "maintainer")
    for step in (2, 6):
        store.progress(run.id, Progress("train", step, 8, loss=0.25, reward=-0.125, kl=0.031, seconds_left=75.4))
        expect(page.get_by_role("progressbar")).to_have_attribute("aria-valuenow", str(100 * step // 8))
    for figure in ("6 / 8", "0.250", "-0.125", "0.031", "1:15"):
        expect(page.locator(".running dd", has_text=figure)).to_be_visible()
    expect(page.locator(".asking")).to_contain_text("On 5% of turns the app asks for a comparison by itself: where the language model was least sure of its words")
    store.add_asking_heads(run, {"replies": 64, "correlation": 0.517}, {"mean": [0.0], "spread": [1.0], "heads": [[0.0, 1.0]]}, [])
    expect(page.locator(".asking")).to_contain_text("a small model of 64 rated replies is least sure (its correlation with ratings it did not see is 0.52).")
    page.get_by_role("button", name="Stop training").click()
    expect(page.locator("#maintainer .notice")).to_contain_text("Stopping")
    assert store.stop_requested(run.id)
    expect(page.get_by_role("button", name="Stop training")).to_be_focused()
    store.finish_run(run.id, "refused", report={"reason": "It repeats itself too often.", "gate": {
        "passed": False, "scale": 0, "reason": "It repeats itself too often.", "replies": [
            {"prompt": "Say hi", "before": "Hi!", "after": "<b>hi hi hi</b>"}]}})
    expect(page.locator(".run.refused").first).to_contain_text("It repeats itself too often.")
    expect(start).to_be_focused()
    page.locator("summary").first.click()
    expect(page.locator(".pair").first).to_contain_text("<b>hi hi hi</b>")
    expect(start).to_be_enabled()


def test_a_version_goes_live_and_is_rolled_back_while_a_reply_is_being_written(person, endless_server):
    talker = person()
    chat = open_chat(talker, endless_server)
    write(chat, "Tell me everything")
    expect(chat.locator(".version-pill .pill-version")).to_have_text("base model")
    number = endless_server.publish(seed=1)
    expect(chat.locator(".version-pill .pill-version")).to_have_text(f"version {number}", timeout=30_000)
    expect(chat.locator(".toast")).to_contain_text(f"Version {number} is live now")
    expect(chat.locator(".reply-body.writing")).to_have_count(1)          # and the stream goes on, on its own version
    before = len(chat.locator(".reply-body").inner_text())
    chat.wait_for_function("n => document.querySelector('.reply-body').innerText.length > n", arg=before + 100)
    expect(chat.locator(".reply-version")).to_have_text("Base model")
    chat.get_by_role("button", name="Stop this reply").click()
    finished(chat)
    store = endless_server.store
    reply = store.conversation(store.conversations(endless_server.rater_of(talker))[0].id).turns[0].replies[0]
    assert (reply.state, reply.version) == ("done", 0)
    assert reply.text and len(reply.completion_ids) == len(reply.behavior_logprobs)
    expect(chat.locator(".divider")).to_contain_text(f"Version {number} is live now")

    write(chat, "And now?")
    expect(chat.locator(".reply-version").last).to_have_text(f"Version {number}")
    expect(chat.locator(".divider")).to_have_text(f"From here on: version {number}")
    chat.get_by_role("button", name="Stop this reply").click()
    finished(chat)

    page = sign_in(person(), endless_server)
    expect(page.locator(f"[data-version='{number}'] .mark-live")).to_be_visible()
    page.get_by_role("button", name="Roll back").click()
    expect(page.locator("[data-version='0'] .mark-live")).to_be_visible()
    expect(page.locator("#maintainer .notice")).to_have_text("Base model is live now.")
    heading = page.get_by_role("heading", name="Versions")
    expect(heading).to_be_focused()                                       # the button, of no use now, is gone
    expect(chat.locator(".version-pill .pill-version")).to_have_text("base model", timeout=30_000)
    page.get_by_role("button", name=f"Make live: version {number}").click()
    expect(page.locator(f"[data-version='{number}'] .mark-live")).to_be_visible()
    expect(page.locator("#maintainer .notice")).to_have_text(f"Version {number} is live now.")
    expect(heading).to_be_focused()

    broken = endless_server.publish(seed=2)
    altered = CorruptAdapter(said("version_altered", version=broken))
    store.mark_failed(broken, altered)
    expect(page.locator("#maintainer .change")).to_have_text(f"Version {broken} could not be loaded, so version {number} answers.")

    stuck = said("learner_did_not_start")
    store.finish_run(store.start_run(endless_server.base.id, "shell").id, "failed", error="As in an older store.")
    refined = said("refined_by", strength=1.5, until=said("refined_until", problem=said("less_pleased", gain=0.0125)))
    store.finish_run(store.start_run(endless_server.base.id, "shell").id, "failed", error=sentence(stuck),
                     report={"said": stuck, "refinement": {"kept": True, **reasoned(refined)},
                             "asking": {"useful": True, "nothing": 0.04, "told_by": {"log_tokens": -0.93, "list_items": 0.12}}})
    page.goto(f"{endless_server.url}/maintainer?lang=zh")
    expect(page.locator(f"[data-version='{broken}'] .problem")).to_have_text(sentence(altered.said, "zh"))
    expect(page.get_by_text(sentence(refined, "zh"))).to_be_visible()
    expect(page.locator(".goes-by")).to_have_text("评分看重的是：字数少一些（93%）、列表项多一些（12%）。")
    expect(page.locator(".run.failed .problem")).to_have_text([sentence(stuck, "zh"), "As in an older store."])

    kept = [endless_server.publish(seed=3), endless_server.publish(seed=4)]
    AdapterRegistry(store, endless_server.state_dir / "adapters").remove_old(endless_server.base.id, 2)
    expect(page.locator(".mark-removed")).to_have_text(["文件已删除", "文件已删除"])
    rows = page.locator(".version-list li")
    assert [(row.get_attribute("data-version"), row.get_by_role("button").count()) for row in rows.all()] == [
        (str(kept[1]), 0), (str(kept[0]), 1), (str(broken), 0), (str(number), 0), ("0", 1)]
    expect(page.locator(f"[data-version='{number}']")).to_contain_text("for a test")


def test_that_the_server_did_not_answer_a_look_is_said_until_it_answers_one_and_what_else_failed_longer(person, chat_server):
    page = sign_in(person(), chat_server)
    expect(page.locator(".training")).to_be_visible()
    notice, failing = page.locator("#maintainer .notice"), {"ui_overview"}
    page.route(re.compile("component_server"), lambda route: route.abort() if route.request.post_data_json["fn_name"] in failing else route.continue_())
    look = lambda: page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    look()
    expect(notice).to_contain_text("The server did not answer")
    failing.clear()
    look()
    expect(notice).to_be_hidden()
    failing.add("ui_train")
    page.get_by_role("button", name="Start training").click()
    expect(notice).to_contain_text("The server did not answer")
    with page.expect_response(lambda response: "ui_overview" in (response.request.post_data or "")):
        look()
    page.wait_for_timeout(500)
    expect(notice).to_be_visible()


def test_the_page_fits_a_phone_and_a_desk(person, chat_server):
    page = sign_in(person(), chat_server)
    expect(page.locator(".training")).to_be_visible()
    for width in (360, 390, 1280):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") == width
