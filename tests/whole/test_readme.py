"""The README's commands, settings and pins are those of the code, and the Chinese one's are the English one's."""

import ast
import inspect
import re
import shlex
import tomllib
from dataclasses import fields
from importlib.util import find_spec
from itertools import takewhile
from pathlib import Path

import pytest

from data.settings import Settings, load_settings

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
CHINESE = (ROOT / "README.zh-CN.md").read_text(encoding="utf-8")
SETTINGS, CHINESE_SETTINGS = ((ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("settings.md", "settings.zh-CN.md"))
SCALE = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
DOCUMENTS = (README, CHINESE, SCALE)
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_the_two_commands_stand_at_the_top():
    assert README.split("# Rated Chat\n\n```sh\n")[1].startswith("pip install -e . && python app.py\npip install -e '.[test]' && pytest\n```")


def test_the_settings_table_is_the_settings():
    body = ast.parse(inspect.getsource(Settings)).body[0].body
    meaning = {node.target.id: after.value.value for node, after in zip(body, body[1:], strict=False) if isinstance(node, ast.AnnAssign)}
    expected = []
    for field in fields(Settings):
        default = str(field.default).lower() if isinstance(field.default, bool) else field.default
        expected.append(f"| `{field.name.upper()}` | {f'`{default}`' if default not in (None, '') else ''} | {meaning[field.name]} |")
    table = SETTINGS.split("<!-- settings -->\n")[1].split("\n<!-- /settings -->")[0].splitlines()
    assert table[2:-1] == expected
    assert table[-1].startswith("| `SETTINGS_FILE` | `settings.toml` | ")      # says where the others are: read before them, and no setting itself


def commands(readme: str) -> list[list[str]]:
    """Every code block without its remarks; of a listing of files, the files."""
    blocks = re.findall(r"```(\w*)\n(.*?)```", readme, re.S)
    return [[line.split()[0] if not kind else re.sub(r"\s*(#.*)?$", "", line) for line in block.splitlines() if line] for kind, block in blocks]


def outline(readme: str) -> list[str]:
    """What stands where: headings by depth, points of lists by number, pictures, and all links but the one to the other language."""
    return [mark for mark in re.findall(r"^#+(?= )|^\d+\.|(?<=\])\([^)]+\)|<http[^>]+>|`/?\w+`", readme, re.M) if "README" not in mark]


def test_the_chinese_readme_has_the_same_commands_settings_sections_links_and_names():
    english = README.split("---", 2)[2]                                    # below the header that a Space reads
    assert commands(CHINESE) == commands(english)
    settings = lambda readme: [row.split(" | ")[:2] for row in readme.split("<!-- settings -->\n")[1].split("\n<!-- /settings -->")[0].splitlines()[2:]]
    assert settings(CHINESE_SETTINGS) == settings(SETTINGS)
    rest = lambda readme: re.sub(r"```.*?```", "", readme.replace("settings.zh-CN.md", "settings.md"), flags=re.S)
    assert outline(rest(CHINESE)) == outline(rest(english))
    assert "[English](README.md)" in CHINESE and "[中文](README.zh-CN.md)" in README
    assert all(re.search("[\u4e00-\u9fff]", row) for row in CHINESE_SETTINGS.split("<!-- settings -->")[1].splitlines()[1:] if row.startswith("| "))


def shell_commands(document: str) -> list[tuple[dict[str, str], list[str]]]:
    """Every command of a document's shell blocks: the variables before it, and its words."""
    found = []
    for command in re.split(r"\n| && ", "\n".join(re.findall(r"```sh\n(.*?)```", document, re.S))):
        words = shlex.split(command, comments=True)
        named = list(takewhile(re.compile("[A-Z_]+=").match, words))
        found += [(dict(word.split("=", 1) for word in named), words[len(named):])] if words else []
    return found


def test_every_option_of_the_learner_and_of_its_launcher_in_the_documents_exists():
    from learner.__main__ import _parser

    options = lambda words: {word.split("=")[0] for word in words if word.startswith("--")}
    learners = {option for action in _parser()._actions for option in action.option_strings}
    launch = Path(find_spec("accelerate").origin).parent / "commands" / "launch.py"        # read, since importing it takes torch
    launchers = set(re.findall(r'add_argument\(\s*"(--\w+)"', launch.read_text(encoding="utf-8")))
    launched = set()
    for document in DOCUMENTS:
        started = [words for _, words in shell_commands(document) if "learner" in words]
        assert started
        for words in started:
            place = words.index("learner")
            assert words[place - 1] == "-m" and words[0] in ("python", "accelerate")
            assert words[place + 1:] and options(words[place + 1:]) <= learners, words
            assert options(words[:place]) <= launchers, words
            launched |= options(words[:place])
    assert launched == {"--multi_gpu", "--num_processes", "--use_fsdp"}


def test_every_variable_before_a_command_in_the_documents_is_a_setting_with_a_value_it_takes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings, seen = {field.name.upper() for field in fields(Settings)}, set()
    for document in DOCUMENTS:
        for variables, words in shell_commands(document):
            if words[0] == "vllm":                                         # its own
                assert all(name.startswith("VLLM_") for name in variables)
                continue
            load_settings(variables)
            seen |= set(variables)
        seen |= set(re.findall(r"`([A-Z_]+)=[^`]*`", document))
    assert {"BASE_MODEL", "ENGINE", "VLLM_URL", "SYNC_URL", "LEARNER"} <= seen <= settings


def test_every_file_the_readme_links_or_names_exists():
    links = re.findall(r"\]\((?!http)([^)#]+)\)", README) + re.findall(r"\b(data/examples/\S+\.json)", README)
    assert links and [link for link in links if not (ROOT / link).exists()] == []


def test_the_python_example_parses_and_uses_endpoints_that_exist():
    [code] = re.findall(r"```python\n(.*?)```", README, re.S)
    ast.parse(code)
    assert set(re.findall(r'api_name="(/\w+)"', code)) == {"/send", "/regenerate", "/rate", "/compare", "/status"}


@pytest.mark.parametrize("pin", PYPROJECT["project"]["dependencies"])
def test_a_space_installs_the_same_pins(pin):
    lines = [line.replace("+cpu", "") for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()]
    assert pin.split(";")[0].strip() in lines


def test_the_spaces_header_names_the_pinned_gradio_and_the_entry():
    header = README.split("---")[1]
    pinned = next(pin for pin in PYPROJECT["project"]["dependencies"] if pin.startswith("gradio=="))
    assert f"sdk_version: {pinned.removeprefix('gradio==')}" in header and "app_file: app.py" in header and (ROOT / "app.py").exists()
