"""What the learner tells people: stored as codes, said in both languages."""

import re
from pathlib import Path

import pytest

from data.sentences import said, sentence, sentences

ROOT = Path(__file__).parent.parent


def test_a_sentence_within_a_sentence_is_said_in_the_same_language():
    of = said("interrupted", next=said("again_due", minutes=10))
    assert sentence(of).endswith("no rating was lost. The next one starts by itself, at the earliest 10 minutes later.")
    assert sentence(of, "zh").endswith("评分也没有丢失。下一次会自动开始，最早在 10 分钟后。")
    with pytest.raises(KeyError):
        said("no such sentence")


def test_every_sentence_is_said_somewhere_with_formats_that_the_pages_know():
    sources = "\n".join(path.read_text(encoding="utf-8") for folder in ("learner", "data") for path in (ROOT / folder).rglob("*.py"))
    assert set(re.findall(r'said\("(\w+)"', sources)) == set(sentences()["en"])
    formats = {form for language in sentences().values() for form in re.findall(r":([^{}]+)\}", str(list(language.values())))}
    assert formats <= {".0%", ".2f", "+.2f"}
