"""Base models are imported from files and folders, checked and described once, whole or not at all."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace

import pytest

from data.base_models import import_base_model, load_base_model
from data.base_models.tokenizer import ChatTokenizer
from data.errors import ModelUnavailable
from data.records import Message
from tests.support.hub import transformers_folder
from tests.support.tiny import write_tiny_gguf


def test_two_processes_at_once_import_once(tmp_path):
    source = write_tiny_gguf(tmp_path / "Tiny.gguf")
    line = (
        "import sys; from pathlib import Path; from data.base_models import import_base_model\n"
        "print(import_base_model(sys.argv[1], Path(sys.argv[2])).id)"
    )
    command = [sys.executable, "-c", line, str(source), str(tmp_path / "models")]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    answers = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], answers
    assert answers[0][0] == answers[1][0]
    assert len(list((tmp_path / "models").glob("*/base.json"))) == 1


def test_what_a_killed_import_left_is_never_taken_for_a_model(tmp_path):
    left = tmp_path / "models" / ".import-killed"
    left.mkdir(parents=True)
    (left / "base.gguf").write_bytes(b"GGUF")
    import_base_model(str(write_tiny_gguf(tmp_path / "Tiny.gguf")), tmp_path / "models")
    assert not left.exists()


def test_equal_weights_are_one_lineage_and_changed_weights_another(tmp_path):
    source = write_tiny_gguf(tmp_path / "Tiny.gguf")
    first = import_base_model(str(source), tmp_path / "models")
    (tmp_path / "elsewhere").mkdir()
    same = import_base_model(str(write_tiny_gguf(tmp_path / "elsewhere" / "Tiny.gguf")), tmp_path / "other")
    source.unlink()  # a linked import keeps its bytes
    other = import_base_model(str(write_tiny_gguf(source, seed=1)), tmp_path / "models")
    assert first.id == same.id and first.id != other.id and first.gguf.is_file()


@pytest.mark.parametrize(("file", "name"), [("base.gguf", "Tiny"), ("ggml-model-q4_0.gguf", "Tiny"), ("My-Own.Q8_0.gguf", "My-Own")])
def test_a_file_that_is_called_what_any_model_could_be_is_named_by_what_it_says_of_itself(file, name, tmp_path):
    assert import_base_model(str(write_tiny_gguf(tmp_path / file)), tmp_path / "models").name == name


def test_a_transformers_folder_becomes_a_base_model(tiny_base, tmp_path):
    folder = transformers_folder(tiny_base, tmp_path / "Tiny-HF")
    base = import_base_model(str(folder), tmp_path / "models")
    assert base.gguf is None and (base.transformers / "model.safetensors").is_file()
    assert (base.name, base.architecture, base.context_length) == ("Tiny-HF", "llama", 1024)
    messages = [Message("user", "the and 你好")]
    ours, theirs = ChatTokenizer(base.folder), ChatTokenizer(tiny_base.folder)
    assert ours.render(messages) == theirs.render(messages) and 2 in ours.eos_ids


@pytest.mark.parametrize("source", ["no/such/thing", "smollm3", "/etc/hostname"])
def test_a_source_that_is_no_model_is_explained(source, tmp_path):
    with pytest.raises(ModelUnavailable, match="is not a model we can find. Set it to smollm2-135m-instruct"):
        import_base_model(source, tmp_path / "models")


def test_a_gguf_cut_short_is_refused(tmp_path):
    whole = write_tiny_gguf(tmp_path / "Tiny.gguf").read_bytes()
    (tmp_path / "Cut.gguf").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelUnavailable, match="damaged or cut short: start again"):
        import_base_model(str(tmp_path / "Cut.gguf"), tmp_path / "models")


def test_importing_and_tokenizing_never_imports_torch(tiny_base):
    line = (
        "import sys; from pathlib import Path\n"
        "from data.base_models import import_base_model\n"
        "from data.base_models.tokenizer import ChatTokenizer; from data.records import Message\n"
        "base = import_base_model(sys.argv[1], Path(sys.argv[2]))\n"
        "tokenizer = ChatTokenizer(base.folder)\n"
        "tokenizer.decode(tokenizer.render([Message('user', 'hi')]))\n"
        "sys.exit('torch' in sys.modules)"
    )
    fresh = tiny_base.folder.parent.parent / "again"
    subprocess.run([sys.executable, "-c", line, tiny_base.source, str(fresh)], check=True, timeout=120)


def test_the_folder_may_be_moved(tiny_base, tmp_path):
    moved = shutil.copytree(tiny_base.folder, tmp_path / "moved")
    assert load_base_model(moved) == replace(tiny_base, folder=moved, gguf=moved / "base.gguf")
