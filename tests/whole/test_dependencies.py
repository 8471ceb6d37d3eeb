"""What `pip install -e '.[test]'` brings, read from what the installed distributions ask for."""

from importlib.metadata import PackageNotFoundError, requires

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def brought(name: str, extras: frozenset[str]) -> set[str]:
    """The distribution and all that it asks for here, by name, in the end."""
    asked, todo = set(), {(name, extras)}
    while todo:
        name, extras = one = todo.pop()
        asked.add(one)
        try:
            lines = requires(name) or []
        except PackageNotFoundError:                                      # not installed: it still counts as asked for
            lines = []
        for requirement in map(Requirement, lines):
            if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
                todo.add((canonicalize_name(requirement.name), frozenset(requirement.extras)))
        todo -= asked
    return {name for name, _ in asked}


def test_nothing_that_the_readmes_test_line_installs_asks_for_torchvision():
    found = brought("rated-chat", frozenset({"test"}))
    assert {"torch", "transformers", "accelerate", "gradio-client", "safetensors", "playwright", "huggingface-hub"} <= found
    assert "torchvision" not in found and "torchvision" in brought("transformers", frozenset({"vision"}))
