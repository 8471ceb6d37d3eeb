"""Weights unpacked once and kept beside the GGUF."""

import errno
import shutil
from dataclasses import replace

import pytest
import torch
from filelock import FileLock
from safetensors import SafetensorError

from data.base_models.unpacked import unpacked
from data.errors import StorageFull
from learner.model.policy import Policy


@pytest.fixture
def tiny_copy(tiny_base, tmp_path):
    """The tiny model in a folder where nothing is unpacked yet."""
    folder = tmp_path / tiny_base.id
    shutil.copytree(tiny_base.folder, folder, ignore=shutil.ignore_patterns("*unpack*"))
    return replace(tiny_base, folder=folder, gguf=folder / "base.gguf")


def writer(calls: list, text: str = "weights"):
    def write(folder):
        calls.append(text)
        (folder / "model.safetensors").write_text(text)
    return write


def test_it_is_written_once_and_anew_when_a_file_has_changed_is_gone_or_was_added(tiny_copy):
    calls = []
    folder = unpacked(tiny_copy, "float32", writer(calls))
    assert unpacked(tiny_copy, "float32", writer(calls)) == folder and len(calls) == 1
    (folder / "model.safetensors").write_text("other weights")
    unpacked(tiny_copy, "float32", writer(calls))
    (folder / "model.safetensors").unlink()
    unpacked(tiny_copy, "float32", writer(calls))
    (folder / "pickled.bin").write_text("who put this here?")
    unpacked(tiny_copy, "float32", writer(calls))
    assert len(calls) == 4 and (folder / "model.safetensors").read_text() == "weights" and not (folder / "pickled.bin").exists()


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"),
                                   SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")])
def test_a_full_disk_is_named_and_leaves_nothing_behind(tiny_copy, error):
    def full(folder):
        (folder / "model.safetensors").write_text("half")
        raise error

    with pytest.raises(StorageFull, match="free some room"):
        unpacked(tiny_copy, "float32", full)
    assert not [path for path in tiny_copy.folder.iterdir() if "unpack" in path.name and path.is_dir()]


def test_what_a_killed_process_left_is_swept_and_a_second_process_waits_for_the_first(tiny_copy):
    (tiny_copy.folder / ".unpacking-dead").mkdir()
    held = []

    def write(folder):
        with pytest.raises(TimeoutError):
            FileLock(tiny_copy.folder / ".unpacked.lock", is_singleton=False).acquire(timeout=0)
        held.append(True)

    unpacked(tiny_copy, "float32", write)
    assert held and not (tiny_copy.folder / ".unpacking-dead").exists()


def test_the_policy_reads_from_it_the_numbers_it_read_from_the_gguf(tiny_copy):
    from tests.support.loras import load_policy

    Policy(tiny_copy, dtype=torch.float32)
    again = Policy(tiny_copy, dtype=torch.float32)
    assert (tiny_copy.folder / "unpacked-float32" / "model.safetensors").is_file()
    plain = load_policy(tiny_copy).state_dict()
    read = {name.removeprefix("base_model.model.").replace(".base_layer", ""): weight
            for name, weight in again.model.state_dict().items() if "lora_" not in name}
    assert read.keys() == plain.keys() and all(torch.equal(read[name], plain[name]) for name in plain)

