"""The catalogue of what the pages say, and the text they show, without a browser."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import chat_app.page.markdown as markdown
import chat_app.page.strings as strings
from chat_app.page.strings import catalogue
from data.texts.reply_features import FEATURES

SCRIPTS = "\n".join(path.read_text(encoding="utf-8") for path in Path(markdown.__file__).parent.glob("*.js"))


def shape(words, language):
    """Keys and placeholders of a catalogue."""
    if isinstance(words, dict):
        return {key: shape(value, language) for key, value in words.items()}
    if isinstance(words, list):
        return [shape(value, language) for value in words]
    return sorted(name.lower() for name in re.findall(r"\{([^}]+)\}", words))


def test_both_languages_say_the_same_things():
    words = catalogue()
    english, chinese = shape(words["en"], "en"), shape(words["zh"], "zh")
    forms = {"one"}                                  # "1 rating" may leave its number to the sentence
    assert english.keys() == chinese.keys()
    for key in english:
        if isinstance(english[key], dict):
            assert english[key].keys() == chinese[key].keys(), key
            assert {k: v for k, v in english[key].items() if k not in forms} == {k: v for k, v in chinese[key].items() if k not in forms}, key
        else:
            assert english[key] == chinese[key], key


def test_every_feature_that_ratings_may_go_by_has_a_name():
    assert catalogue()["en"]["features"].keys() == {*FEATURES, "meaning"}


def test_no_key_stands_there_twice():
    def once(pairs):
        assert len(dict(pairs)) == len(pairs), [key for key, _ in pairs if [other for other, _ in pairs].count(key) > 1]
        return dict(pairs)

    json.loads(Path(strings.__file__).with_name("strings.json").read_text(encoding="utf-8"), object_pairs_hook=once)


def test_every_word_a_script_asks_for_exists_and_none_is_left_over():
    words = catalogue()["en"]
    asked = set(re.findall(r"words\.(\w+)|say\('(\w+)'", SCRIPTS))
    asked = {a or b for a, b in asked} | set(re.findall(r"'(schedule\w*)'", SCRIPTS))
    named = {"temperature", "top_p", "top_k", "max_new_tokens", "up", "down"}            # chosen by a value: words[name]
    assert asked - words.keys() == set()
    assert words.keys() - asked - named == set()


LITERAL = re.compile(r"//[^\n]*|/\*.*?\*/|'(?:\\.|[^'\\\n])*'|\"(?:\\.|[^\"\\\n])*\"|`(?:\\.|[^`\\])*`", re.S)
CODE = re.compile(r"(?:(?:===|!==|class:|kind:) |\('class', |(?:setAttribute|querySelector|querySelectorAll)\()$")
"""What stands before a literal that a machine reads: a name to compare with, classes, an attribute, a selector."""
NAMES = {"English", "中文", "State", "Delete", "Backspace"}
"""Languages in their own language, the end of a method's name, keys."""
SHOWN = [r"make\('\w+', \{(?:[^{}]|\{[^{}]*\})*\}, ['\"`]\w", r"setText\([^,]+, ['\"`]\w", r"(?:announce|showNotice|showToast|showTrouble|complain)\(['\"`]\w",
         r"(?:aria-label|title|placeholder|alt|aria-valuetext)'?[:,] ['\"`]\w", r"(?:textContent|innerText|title|placeholder) = ['\"`]\w"]


def words_in(script):
    """Literals of a script that look like words for people: two of them, one with a capital, an end of a sentence, or no ASCII."""
    for found in LITERAL.finditer(script):
        text = re.sub(r"\$\{(?:[^{}]|\{[^{}]*\})*\}", "", found[0][1:-1])
        if found[0][:2] in ("//", "/*") or CODE.search(script[max(0, found.start() - 40):found.start()]) or re.match(r"M\d", text):          # an icon's path
            continue
        if re.search(r"[A-Z][a-z]+|[a-z]{2,} [a-z]{2,}|[a-z][.!?]$|[^\x00-\x7f·–、 ]", text):
            yield text


def test_no_script_says_anything_that_is_not_in_the_catalogue():
    assert set(words_in(SCRIPTS)) == NAMES
    assert [found[0] for pattern in SHOWN for found in re.finditer(pattern, SCRIPTS)] == []
    assert list(words_in("say(`Step ${n}`); x = 'please wait'; // What a remark says\n y = '等待'; 'quiet' === 'Enter'")) == ["Step ", "please wait", "等待"]


@pytest.mark.parametrize(("text", "shown"), [
    ("a **b**", "<p>a <strong>b</strong></p>\n"),
    ("one\ntwo", "<p>one<br>\ntwo</p>\n"),
    ("# Title", "<h3>Title</h3>\n"),
    ("<b>raw</b>", "<p>&lt;b&gt;raw&lt;/b&gt;</p>\n"),
    ("![x](http://e.org/i.png)", '<p><a href="http://e.org/i.png" target="_blank" rel="noopener noreferrer nofollow">x</a></p>\n'),
    ("[x](javascript:alert(1))", "<p>[x](javascript:alert(1))</p>\n"),
])
def test_markdown_is_shown_and_nothing_in_it_acts(text, shown):
    assert markdown.to_safe_html(text) == shown


@given(st.text(alphabet="<>&\"'`![](){}/\\=:;#*_ \n\tascriptonerrorimgsrcjavdt:", max_size=200))
def test_no_text_becomes_an_element_that_acts_or_fetches(text):
    tags = re.findall(r"<\s*/?([a-zA-Z0-9]+)([^>]*)>", markdown.to_safe_html(text))
    assert {tag for tag, _ in tags} <= set(markdown.TAGS.split())
    attributes = {name for _, rest in tags for name in re.findall(r"([\w-]+)=\"", rest)}
    assert attributes <= {"href", "target", "rel", "start", "tabindex"}
