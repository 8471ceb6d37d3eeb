"""What the learner and errors tell people: stored as codes, said in both languages."""

import ast
import pickle
import re
from pathlib import Path

import pytest

from data.errors import ChatError, StorageFull
from data.sentences import said, sentence, sentences

ROOT = Path(__file__).parent.parent.parent
SOURCES = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for folder in ("chat_app", "data", "learner") for path in (ROOT / folder).rglob("*.py")}
AT_A_TERMINAL = ("chat_app/engines/__init__.py", "data/base_models/__init__.py", "data/base_models/download.py", "data/base_models/gguf_files.py", "data/base_models/hub.py", "data/importing.py",
                 "data/store/inbox.py", "data/store/shards.py", "data/settings.py", "data/sync/", "learner/__main__.py")
"""Their errors end a start or a command, or go to a log: no page shows them, and they stay plain English."""


def calls(source: str):
    """(name of what is called, the call) of every call by a plain name."""
    return [(node.func.id, node) for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]


def test_a_sentence_within_a_sentence_is_said_in_the_same_language():
    of = said("interrupted", next=said("again_due", minutes=10))
    assert sentence(of).endswith("no rating was lost. The next one starts by itself, at the earliest 10 minutes later.")
    assert sentence(of, "zh").endswith("评分也没有丢失。下一次会自动开始，最早在 10 分钟后。")
    with pytest.raises(KeyError):
        said("no such sentence")


def test_an_error_says_the_same_in_both_languages_and_after_a_way_through_a_pipe():
    error = pickle.loads(pickle.dumps(StorageFull(said("disk_full", folder="/state"))))
    assert str(error) == "Nothing was saved because the disk that holds /state is full or failing; free some space and try again."
    assert error.told() == {"kind": "StorageFull", "error": str(error), "said": {"code": "disk_full", "folder": "/state"}}
    assert sentence(error.said, "zh") == "没有保存，因为 /state 所在的磁盘已满或有故障；请腾出空间后再试。"
    assert str(ChatError("As in an older store.")) == "As in an older store." and ChatError("").said is None


def test_every_error_that_a_page_may_show_is_said_in_both_languages():
    classes = {node.name: [base.id for base in node.bases if isinstance(base, ast.Name)]
               for source in SOURCES.values() for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ClassDef)}
    kinds = {"ChatError"}
    while more := {name for name, bases in classes.items() if kinds & set(bases)} - kinds:
        kinds |= more
    in_english = [f"{path}:{call.lineno} {name}" for path, source in SOURCES.items() if not path.startswith(AT_A_TERMINAL)
                  for name, call in calls(source) if name in kinds and not re.match(r"said\(|sentence$", ast.unparse(call.args[0]))]
    assert len(kinds) > 20 and in_english == []


def test_every_sentence_is_said_somewhere_with_its_values_and_formats_that_the_pages_know():
    told = [call for source in SOURCES.values() for name, call in calls(source) if name == "said"]
    assert {call.args[0].value for call in told} == set(sentences()["en"])
    for call in told:
        wanted = set(re.findall(r"\{(\w+)", str(sentences()["en"][call.args[0].value])))
        assert {value.arg for value in call.keywords} == wanted, ast.unparse(call)
    formats = {form for language in sentences().values() for words in language.values() for form in re.findall(r"\{\w+:([^{}]+)\}", str(words))}
    assert formats <= {".0%", ".2f", "+.2f", "+.3f", "g", ","}
