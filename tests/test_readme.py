"""The README's commands, settings and pins are those of the code."""

import ast
import inspect
import re
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from data.settings import Settings

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
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
    table = README.split("<!-- settings -->\n")[1].split("\n<!-- /settings -->")[0].splitlines()
    assert table[2:] == expected


def test_every_learner_option_in_the_readme_exists():
    from learner.__main__ import _parser

    options = {option for action in _parser()._actions for option in action.option_strings}
    used = set(re.findall(r"python -m learner.*", README))
    assert used and all(set(re.findall(r" (--[a-z-]+)", line)) <= options for line in used)


def test_every_file_the_readme_links_or_names_exists():
    links = re.findall(r"\]\((?!http)([^)#]+)\)", README) + re.findall(r"\b(data/examples/\S+\.json)", README)
    assert links and [link for link in links if not (ROOT / link).exists()] == []


def test_the_python_example_parses_and_uses_endpoints_that_exist():
    [code] = re.findall(r"```python\n(.*?)```", README, re.S)
    ast.parse(code)
    assert set(re.findall(r'api_name="(/\w+)"', code)) == {"/send", "/rate", "/status"}


@pytest.mark.parametrize("pin", PYPROJECT["project"]["dependencies"])
def test_a_space_installs_the_same_pins(pin):
    lines = [line.replace("+cpu", "") for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()]
    assert pin.split(";")[0].strip() in lines


def test_the_spaces_header_names_the_pinned_gradio_and_the_entry():
    header = README.split("---")[1]
    pinned = next(pin for pin in PYPROJECT["project"]["dependencies"] if pin.startswith("gradio=="))
    assert f"sdk_version: {pinned.removeprefix('gradio==')}" in header and "app_file: app.py" in header and (ROOT / "app.py").exists()
