"""What a person sees of what a rating did, in Chromium."""

import pytest
from playwright.sync_api import expect

from data.adapters import AdapterRegistry
from data.records import ReceiptRow
from data.sentences import reasoned, said, sentence
from tests.support.browser_fixtures import answered, finished, open_chat, write
from tests.support.random_adapter import write_random_adapter

pytestmark = pytest.mark.browser


def train_on(server, reply_id, state="published", **report):
    """The test takes the learner's part: a run that saw every rating, and its end."""
    store, base = server.store, server.base
    run = store.start_run(base.id, "shell")
    if state == "refused":
        return store.finish_run(run.id, "refused", report=report)
    length = len(store.reply(reply_id).completion_ids)
    ids = tuple(row["id"] for row in store.rows("SELECT id FROM current_ratings WHERE reply_id = ?", reply_id))
    row = ReceiptRow(0, reply_id, 1.0, 0.5, 0.4, -2.0 * length, -1.9 * length, ids)
    version = AdapterRegistry(store, server.state_dir / "adapters").publish(
        lambda folder: write_random_adapter(base, folder, seed=1), base_model=base.id, run_id=run.id,
        parent=store.live_version(base.id), receipts=[row], note="Trained on 1 rated reply from 1 person.")
    return store.finish_run(run.id, "published", version=version.number, report=report)


def test_a_rating_that_trained_a_version_says_so_and_tells_how(person, chat_server):
    page = answered(person(), chat_server, contributes=True)
    page.get_by_role("button", name="Good reply").click()
    expect(page.locator(".rating-note")).to_have_text("Saved")
    expect(page.locator(".receipt-line")).to_be_hidden()
    reply = page.locator(".reply").get_attribute("data-reply")
    why = said("passed_only", strength=said("at_strength", scale=0.5, problem=said("moved", kl=0.75, limit=0.5)), why=said("why_all_trained"))
    number = train_on(chat_server, reply, data={"replies": 1, "raters": 1}, **reasoned(why), gate={
        "scale": 1, "replies": [{"prompt": "Say hi", "before": "Hi!", "after": "<b>Hello!</b>"}]}).version

    line = page.get_by_role("button", name=f"Your rating helped make version {number}")
    line.click()                                                # it came by itself, without a reload
    panel = page.locator(".receipt-panel")
    expect(panel).to_contain_text(f"Used: Thumb up. It was 100% of what version {number} learned")
    expect(panel).to_contain_text("pushed towards this reply")
    expect(panel).to_contain_text("times as likely")
    expect(panel).to_contain_text(sentence(why))                # the page's own rendering of the same codes
    panel.locator("summary").click()
    expect(panel).to_contain_text("<b>Hello!</b>")
    panel.get_by_role("button", name="What does it say now?").click()
    sides = panel.locator(".then-and-now .pair > div")
    expect(panel.locator(".then-and-now")).to_contain_text("asked again with the same settings")
    expect(sides.locator("h3")).to_have_text(["Then, base model", f"Now, version {number}"])
    store, bodies = chat_server.store, page.locator(".reply-body")
    assert bodies.nth(1).inner_text() == (bodies.nth(0).inner_text() or "The reply is empty.") and [now.version for now in store.replies_again(reply)] == [number]
    expect(page.locator(".turn .attempts")).to_be_hidden()          # the conversation is as it was
    line.click()
    expect(panel).to_be_hidden()
    store.promote(0, chat_server.base.id, "for this test")
    line.click()
    expect(panel).to_contain_text("No newer version could say it differently: base model answers now.")
    store.promote(number, chat_server.base.id, "for this test")
    expect(sides.nth(1)).to_contain_text(f"Now, version {number}")           # kept, and not written again
    assert len(store.replies_again(reply)) == 1
    line.click()
    expect(panel).to_be_hidden()

    page.get_by_role("button", name="Base model").click()
    expect(page.locator(".version-about")).to_have_text("The model as it came, with no adapter")
    expect(page.locator(".pill-version")).to_have_text(f"version {number}", timeout=30_000)
    write(page, "And now?")
    finished(page)
    page.get_by_role("button", name=f"Version {number}", exact=True).click()
    expect(page.locator(".version-about").last).to_have_text("Learned from 1 rated reply. People who rated it: 1. "
                                                             "What changed, compared to the base model: 1 of 1 liked reply became likelier.")
    chat_server.store.promote(0, chat_server.base.id, "for the next test")


def test_a_rating_whose_version_was_refused_says_so_in_plain_words(person, chat_server):
    page = open_chat(person(locale="zh-CN"), chat_server)
    page.get_by_role("button", name="参与训练", exact=True).click()
    write(page, "Hello")
    finished(page)
    page.get_by_role("button", name="回答不好").click()
    expect(page.locator(".rating-note")).to_have_text("已保存")
    train_on(chat_server, page.locator(".reply").get_attribute("data-reply"), "refused",
             **reasoned(said("gate_refused", problem=said("repeats", share=0.4, base=0.105))))
    page.get_by_role("button", name="您的评分用上了").click()
    expect(page.locator(".receipt-panel")).to_contain_text("候选版本没有通过检查：它在重复自己：40% 的四元词组已经说过（基础模型：")
    expect(page.locator(".receipt-panel")).to_contain_text("您的评分会保留")
