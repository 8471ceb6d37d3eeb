"""What a person can do: send, regenerate, stop, look, rate. Whatever needs the engine or takes several steps comes through here; pages read and write single events in the store themselves."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace

from chat_app.asking import Asking
from chat_app.belongings import Belongings
from chat_app.elsewhere import ReplyElsewhere
from chat_app.line import Line
from chat_app.places import Places
from chat_app.prompts import Prompt, check_message, fit_prompt
from chat_app.replies import ReplyJob
from chat_app.serving import Serving, Started
from chat_app.tasks import choose_task, system_prompt
from chat_app.then_and_now import Retelling
from data.base_models.tokenizer import ChatTokenizer
from data.cached import Cached
from data.errors import Busy, UnknownConversation
from data.records import BaseModel, Comparison, Conversation, Reply, Sampling, SecondOpinion, Task, Turn
from data.sentences import said
from data.settings import Settings
from data.store import Store

CLOSE_SECONDS = 10
COUNT_SECONDS = 1.0
"""Fresh ratings are counted at most this often: every open page asks every few seconds."""


class _SentMeanwhile(Exception):
    """The same message, under the same key, was stored after it was looked for."""


class ChatService:
    """One chat server's use cases. Every method takes the caller's rater id and checks what is theirs."""

    def __init__(self, store: Store, serving: Serving, base: BaseModel, settings: Settings) -> None:
        self.store, self.serving, self.base, self.settings = store, serving, base, settings
        self.tokenizer = ChatTokenizer(base.folder)
        self._places = Places(settings.max_streams + settings.max_waiting)
        self._line = Line(settings.max_streams)
        self.fresh_ratings = Cached(lambda: store.fresh_ratings(base.id), COUNT_SECONDS)
        self.belongings = Belongings(store, serving, base, self._places)
        self.retelling = Retelling(store, serving, base, self._places, self._start_again)
        self._asking = Asking(store, self._places, settings, self._start_aside)

    def send(self, rater_id: str, conversation_id: str | None, text: str, *, task: str | None = None, after: str | None = None,
             draft: str | None = None, unasked: bool | None = True) -> ReplyJob | ReplyElsewhere:
        """Append a message and start its reply; without a conversation, start one.

        `task`: what a new conversation is for, by default a dialogue; it cannot change later.
        `after`: the attempt at the last message that this one answers to; the conversation goes on from it. A reply
        to another message says nothing: the conversation has grown elsewhere meanwhile.
        `draft`: a key that whoever sends has made up for this message. Under one that this person has sent already nothing is
        stored, and that message's reply is returned: the answer to the first call may have been lost on its way.
        `unasked`: whether the reply contributes while its person was not asked; None: it waits for their answer; False:
        it never does, whatever they said. Nor does it in a conversation that holds a reply which must not train: the prompt
        repeats that one.

        Raises:
            EmptyMessage, MessageTooLong, UnknownConversation, BadTask, StorageFull: nothing was stored.
            Busy: too many replies are being written, of everybody's or of this person's, or one in this conversation is; nothing was stored.
        """
        try:
            return self._sent_before(rater_id, draft) or self._send(rater_id, conversation_id, text, task, after, draft, unasked)
        except _SentMeanwhile:
            return self._sent_before(rater_id, draft)

    def _send(self, rater_id: str, conversation_id: str | None, text: str, task: str | None, after: str | None, draft: str | None,
              unasked: bool | None) -> ReplyJob:
        text = check_message(text, self.settings.max_message_chars)
        if conversation_id:
            self.store.check_owner(conversation_id, rater_id)
        with self._places.reserve(conversation_id or None, rater_id) as fill:
            conversation = self.conversation(rater_id, conversation_id) if conversation_id else None
            chosen = choose_task(task, conversation)
            earlier = conversation.turns if conversation else ()
            went_on = bool(earlier) and after in [reply.id for reply in earlier[-1].replies]
            if went_on:
                earlier = (*earlier[:-1], replace(earlier[-1], answer_id=after))
            prompt = self._prompt(chosen, earlier, text)

            def new_turn() -> str:
                if draft and self.store.reply_to_draft(rater_id, draft):
                    raise _SentMeanwhile
                if conversation_id:
                    self._check_free(conversation_id, rater_id)
                if went_on:
                    self.store.choose_answer(earlier[-1].id, after)
                home = conversation_id or self.store.new_conversation(self.store.ensure_rater(rater_id), task=chosen).id
                return self.store.add_turn(home, text, draft).id

            return fill(self._start(new_turn, prompt, rater_id, unasked, ended=self._asking.reply_ended))

    def _sent_before(self, rater_id: str, draft: str | None) -> ReplyJob | ReplyElsewhere | None:
        reply = self.store.reply_to_draft(rater_id, draft) if draft else None
        if reply is None:
            return None
        job = self._places.running(reply.conversation_id)
        return job if job and job.reply_id == reply.id else ReplyElsewhere(reply, self.store)

    def regenerate(self, rater_id: str, conversation_id: str, *, unasked: bool | None = True) -> ReplyJob:
        """Another attempt at the last message; earlier attempts keep their ratings.

        Raises: UnknownConversation, Busy, StorageFull.
        """
        self.store.check_owner(conversation_id, rater_id)
        with self._places.reserve(conversation_id, rater_id) as fill:
            conversation = self.conversation(rater_id, conversation_id)
            if not conversation.turns:
                raise UnknownConversation(said("nothing_to_regenerate"))
            *earlier, last = conversation.turns

            def same_turn() -> str:
                self._check_free(conversation_id, rater_id)
                self.store.choose_answer(last.id, None)
                return last.id

            return fill(self._start(same_turn, self._prompt(conversation.task, earlier, last.message), rater_id, unasked))

    def stop(self, rater_id: str, conversation_id: str) -> None:
        """End the reply that is being written in this conversation, if any; what was written is kept."""
        self.store.check_owner(conversation_id, rater_id)
        job = self.running(conversation_id)
        if job:
            job.cancel()

    def running(self, conversation_id: str) -> ReplyJob | ReplyElsewhere | None:
        """The reply that is being written in this conversation, here or by another server: a reloaded page goes on watching it."""
        elsewhere = None if (job := self._places.running(conversation_id)) else self.store.written_elsewhere(conversation_id)
        return ReplyElsewhere(self.store.reply(elsewhere), self.store) if elsewhere else job

    def conversation(self, rater_id: str, conversation_id: str) -> Conversation:
        """Raises: UnknownConversation: it does not exist or is somebody else's."""
        return self.store.conversation(conversation_id, rater_id)

    def rate(self, rater_id: str, reply_id: str, kind: str, value: int) -> dict[str, int]:
        """Append a rating; 0 takes it back. Returns the current ratings of that reply.

        Raises: BadRating, UnknownReply, NotYourReply, StorageFull: nothing was written.
        """
        return self.store.add_rating(reply_id, rater_id, kind, value)

    def compare(self, rater_id: str, first_id: str, second_id: str, preferred: str, asked_by: str = "person") -> Comparison | None:
        """Append a comparison of two attempts at one message (see `Store.add_comparison`); returns what is current.

        A conversation that has not gone on yet goes on from the better one.

        Raises: BadRating, UnknownReply, NotYourReply, StorageFull: nothing was written.
        """
        with self.store.write():
            said = self.store.add_comparison(first_id, second_id, rater_id, preferred, asked_by)
            if preferred != "same":
                better = {"first": first_id, "second": second_id}.get(preferred)
                self.store.choose_answer(self.store.reply(first_id, rater_id).turn_id, better)
        return said

    def second_opinion(self, rater_id: str) -> SecondOpinion | None:
        """Somebody else's exchange that this person may rate, when there is one for them now; called at a quiet moment."""
        share = self.settings.second_opinion_share
        return self.store.offer_second_opinion(rater_id, self.base.id, share) if share else None

    def ratings(self, rater_id: str, conversation_id: str) -> dict[str, dict[str, int]]:
        return self.store.ratings_of(rater_id, conversation_id)

    def status(self) -> dict:
        """What runs: version, the one being loaded, base model, engine, fresh ratings and the last run. Public, so a run's error stays out of it."""
        run = self.store.last_run(self.base.id)
        change = self.serving.change
        loading = change.version if change and change.trouble is None else None
        shown = ("id", "state", "trigger", "version", "started_at", "ended_at")
        return {"version": self.serving.version, "loading": loading, "base_model": self.base.name, "engine": self.serving.engine.name,
                "fresh_ratings": self.fresh_ratings(),
                "run": None if run is None else {**{k: getattr(run, k) for k in shown}, **asdict(run.progress)}}

    def close(self) -> None:
        """End running replies, keeping what they wrote."""
        jobs = self._places.all()
        for job in jobs:
            job.cancel()
        for job in jobs:
            job.close(CLOSE_SECONDS)

    def _prompt(self, task: Task, earlier: Sequence[Turn], message: str) -> Prompt:
        told = system_prompt(task, earlier[0].message if earlier else message, self.settings.system_prompt)
        return fit_prompt(earlier, message, self.tokenizer, context_length=self.base.context_length,
                          max_new_tokens=self.settings.max_new_tokens, system_prompt=told)

    def _check_free(self, conversation_id: str, rater_id: str) -> None:
        """In the transaction that starts a reply. Raises: UnknownConversation: it was deleted meanwhile. Busy: another server writes in it."""
        self.store.check_owner(conversation_id, rater_id)
        if self.store.written_elsewhere(conversation_id):
            raise Busy(said("still_written"))

    def _contributes(self, rater_id: str, turn_id: str, unasked: bool | None) -> bool | None:
        if unasked is False or self.store.has_private_replies(turn_id):      # what was not to train then is not in another prompt either
            return False
        consent = self.store.consent(rater_id)
        return unasked if consent is None else consent

    def _start_aside(self, reply: Reply) -> ReplyJob:
        """Another attempt at what `reply` answered, for a comparison. Raises: UnknownReply: its conversation was deleted."""
        prompt = Prompt(reply.prompt_ids, reply.dropped_turns, self.base.context_length - len(reply.prompt_ids))
        return self._start(lambda: self.store.reply(reply.id, reply.rater_id).turn_id, prompt, reply.rater_id, None, aside=True)

    def _start_again(self, reply: Reply) -> ReplyJob:
        """The same prompt with the sampling and the seed of then, for the version that is live when its turn comes."""
        prompt = Prompt(reply.prompt_ids, reply.dropped_turns, self.base.context_length - len(reply.prompt_ids))
        return self._start(lambda: self.store.reply(reply.id, reply.rater_id).turn_id, prompt, reply.rater_id, None, sampling=reply.sampling, again_of=reply.id)

    def _start(self, turn_id: Callable[[], str], prompt: Prompt, rater_id: str, unasked: bool | None, *, sampling: Sampling | None = None,
               aside: bool = False, again_of: str | None = None, ended: Callable[[str], None] | None = None) -> ReplyJob:
        """Sample first, store second, in one transaction: a reply that cannot start leaves no half of a turn behind.

        Where others are before it, it is stored and waits in line. Which version answers is known when its turn comes.

        Consent, the conversation's earlier replies' included, is read in that transaction: an answer given at the same moment
        is either seen here or sees this reply.
        """
        sampling = sampling or replace(self.settings.sampling, seed=secrets.randbelow(2**31),
                                       max_new_tokens=min(self.settings.max_new_tokens, prompt.room))
        ticket, started = self._line.join(), None

        def begin() -> Started:
            return self.serving.stream(prompt.ids, sampling)

        try:
            started = begin() if ticket.place == 0 else None
            with self.store.write():
                version, sha256 = (started.version, started.adapter_sha256) if started else self.serving.live
                turn = turn_id()
                reply = self.store.start_reply(turn, version, sha256, self.base.id,
                                               self.serving.engine.name, sampling, prompt.ids, prompt.dropped_turns,
                                               self._contributes(rater_id, turn, unasked), aside or again_of is not None, again_of)
        except BaseException:
            ticket.leave()
            if started:
                started.stream.cancel()
            raise
        return ReplyJob(reply, ticket, started, begin, self.store, self.tokenizer, ended)
