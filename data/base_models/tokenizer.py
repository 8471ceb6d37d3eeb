"""Messages to token ids and back, for the imported base model. Never imports torch.

The chat template is rendered here with jinja2, in the sandbox and with the helpers that transformers gives a template
(transformers' own renderer would import torch).
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from jinja2 import TemplateError
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from data.errors import ModelUnavailable
from data.records import Message
from data.sentences import said


class ChatTokenizer:
    """The tokenizer and the chat template of one imported base model. Safe to use from many threads."""

    def __init__(self, folder: Path):
        """Raises: ModelUnavailable: `folder` holds no imported base model."""
        try:
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        except Exception as error:  # the tokenizers library raises plain Exception
            raise ModelUnavailable(said("tokenizer_unreadable", folder=str(folder), error=str(error))) from error
        self._plain = Tokenizer.from_str(self._tokenizer.to_str())
        self._plain.encode_special_tokens = True  # special tokens are spelled out like any other text
        self._special = sorted(
            (added.content for added in self._tokenizer.get_added_tokens_decoder().values()), key=len, reverse=True
        )
        self._template = _environment().from_string(config["chat_template"])
        self._named = {name: config.get(name) or "" for name in ("bos_token", "eos_token", "unk_token", "pad_token")}
        self.eos_ids: frozenset[int] = frozenset(config["eos_token_ids"])
        """Sampling any of these ends a reply."""

    @property
    def vocab_size(self) -> int:
        return self._tokenizer.get_vocab_size(with_added_tokens=True)

    def render(self, messages: Sequence[Message]) -> list[int]:
        """The prompt's token ids: the chat template over `messages`, with the prompt for the assistant's next reply.

        A special token that somebody typed stays the letters they typed: nobody can forge a turn.

        Raises: ModelUnavailable: the template refuses these messages (e.g. it knows no system message).
        """
        marks: dict[str, str] = {}
        salt = secrets.token_hex(8)

        def hide(content: str) -> str:
            for number, special in enumerate(self._special):
                if special in content:
                    mark = f"\ue000{salt}{number}\ue001"
                    marks[mark] = special
                    content = content.replace(special, mark)
            return content

        turns = [{"role": message.role, "content": hide(message.content)} for message in messages]
        try:
            text = self._template.render(messages=turns, add_generation_prompt=True, tools=None, documents=None, **self._named)
        except TemplateError as error:
            raise ModelUnavailable(said("template_refuses", error=str(error))) from error
        return self._encode_with_marks(text, marks)

    def encode(self, text: str) -> list[int]:
        """Token ids of plain text; special tokens inside it are spelled out, none is added."""
        return self._plain.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Sequence[int], skip_special: bool = True) -> str:
        """Text of `ids`. A character cut in half at the end shows as U+FFFD."""
        return self._tokenizer.decode(list(ids), skip_special_tokens=skip_special)

    def token_spans(self, ids: Sequence[int]) -> list[tuple[int, int]]:
        """For each token the (start, end) of its letters in `decode(ids)`; a character cut over several tokens belongs to all of them.

        Decodes every beginning of `ids`, so it takes quadratic time: about 30 ms for 400 tokens.
        """
        ends = [len(self.decode(ids[:count])) for count in range(len(ids) + 1)]
        whole = [len(self.decode(ids[:count]).rstrip("\ufffd")) for count in range(len(ids))]
        return list(zip(whole, ends[1:], strict=True))

    def _encode_with_marks(self, text: str, marks: dict[str, str]) -> list[int]:
        if not marks:
            return self._tokenizer.encode(text, add_special_tokens=False).ids
        mark, special = next(iter(marks.items()))
        rest = {other: spelled for other, spelled in marks.items() if other != mark}
        ids: list[int] = []
        for number, piece in enumerate(text.split(mark)):
            if number:
                ids += self.encode(special)
            ids += self._encode_with_marks(piece, rest) if piece else []
        return ids


class GrowingText:
    """The text of a reply while its token ids come in; each look decodes what is new, not the whole reply again."""

    def __init__(self, tokenizer: ChatTokenizer) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._whole = ""
        """Text of `_ids[:_read]`, which ends in no half character, so that nothing to come can change it."""
        self._from = self._read = 0
        """New tokens are decoded behind `_ids[_from:_read]`: some decoders drop a space at the very beginning."""

    def feed(self, ids: Sequence[int]) -> None:
        self._ids += ids

    def look(self) -> str:
        """`decode` of all ids so far, but for a character cut in half at the end: that comes with its last token."""
        known = self._tokenizer.decode(self._ids[self._from : self._read])
        text = self._whole + self._tokenizer.decode(self._ids[self._from :])[len(known) :]
        whole = text.rstrip("\ufffd")
        if len(whole) == len(text):
            self._whole = text
            if self._tokenizer.decode(self._ids[self._read :]):
                self._from = self._read
            self._read = len(self._ids)
        return whole


class _GenerationBlock(Extension):
    """`{% generation %}` marks the assistant's words in some templates; here it only passes its body through."""

    tags = {"generation"}

    def parse(self, parser):
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _environment() -> ImmutableSandboxedEnvironment:
    def refuse(reason: str):
        raise TemplateError(reason)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationBlock, "jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = lambda value, **options: json.dumps(value, ensure_ascii=False, **options)
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment
