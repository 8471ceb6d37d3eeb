"""The merged GGUF is the base plus the adapter, to the encoding's precision, or the adapter is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest

from chat_app.engines.gguf import held, servable_gguf, servable_path, sweep_cache
from chat_app.engines.gguf_merge import _copy_metadata, _template
from chat_app.engines.lora import permute_rows, read_deltas
from data.base_models import import_base_model
from data.errors import AdapterMismatch, CorruptAdapter, ModelUnavailable, StorageFull
from data.files import full_disk_says, plain_errors_of_numpy
from data.sentences import said
from tests.support.loras import load_policy, write_random_lora
from tests.support.tiny import write_tiny_gguf


@pytest.fixture(scope="module")
def adapter(tiny_base, tmp_path_factory):
    return write_random_lora(tiny_base, tmp_path_factory.mktemp("lora") / "v1", spread=0.3)


def weights(path):
    """Every tensor of a GGUF file, dequantised."""
    from gguf import GGUFReader
    from gguf.quants import dequantize

    return {
        tensor.name: dequantize(tensor.data, tensor.tensor_type).reshape([int(n) for n in reversed(tensor.shape)])
        for tensor in GGUFReader(path).tensors
    }


def test_rows_of_q_and_k_move_from_half_a_head_apart_to_side_by_side():
    # Two heads of four rows: transformers rotates rows (0,2) and (1,3) together, llama.cpp wants the pairs adjacent.
    rows = np.array([[0], [1], [2], [3], [10], [11], [12], [13]])
    assert permute_rows(rows, heads=2).ravel().tolist() == [0, 2, 1, 3, 10, 12, 11, 13]


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3"])
def test_transformers_reads_the_merged_file_as_base_plus_adapter(architecture, tmp_path):
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    source = write_tiny_gguf(tmp_path / "Tiny.gguf", architecture=architecture)
    base = import_base_model(str(source), tmp_path / "models")
    folder = write_random_lora(base, tmp_path / "lora", spread=0.3)
    merged = servable_gguf(base, folder, tmp_path / "cache", encoding="F16")
    served = AutoModelForCausalLM.from_pretrained(merged.parent, gguf_file=merged.name, dtype=torch.float32).state_dict()
    expected = PeftModel.from_pretrained(load_policy(base), folder).merge_and_unload().state_dict()
    for name, weight in expected.items():
        # half precision keeps 11 bits: half a unit of the last is 2^-12 of the value
        assert torch.allclose(served[name], weight, rtol=2**-11, atol=1e-6), name


def test_q8_is_within_half_a_step_of_the_exact_weights(tiny_base, adapter, tmp_path):
    exact = weights(servable_gguf(tiny_base, adapter, tmp_path, encoding="F16"))
    rounded = weights(servable_gguf(tiny_base, adapter, tmp_path, encoding="Q8_0"))
    for name, weight in exact.items():
        if weight.ndim < 2:
            assert np.array_equal(weight, rounded[name])
            continue
        blocks, near = weight.reshape(-1, 32), rounded[name].reshape(-1, 32)
        step = np.abs(blocks).max(axis=1, keepdims=True) / 127
        assert (np.abs(blocks - near) <= step * 0.6 + 1e-6).all(), name  # half a step; scale and reference are half precision


def test_threads_write_the_same_bytes_and_a_second_version_too_though_its_beginning_is_not_made_again(tiny_base, adapter, tmp_path):
    alone, together = (servable_gguf(tiny_base, adapter, tmp_path / name, threads=threads) for name, threads in (("alone", 1), ("together", 3)))
    assert alone.read_bytes() == together.read_bytes()
    servable_gguf(tiny_base, adapter, tmp_path / "kept")
    known = _template.cache_info().hits
    fresh = servable_gguf(tiny_base, None, tmp_path / "kept").read_bytes()
    assert _template.cache_info().hits == known + 1
    _template.cache_clear()
    assert fresh == servable_gguf(tiny_base, None, tmp_path / "anew").read_bytes()


def test_a_base_file_of_another_alignment_is_read_and_written_alike(tiny_base, adapter, tmp_path):
    from gguf import GGUFReader, GGUFWriter

    reader = GGUFReader(tiny_base.gguf)
    wide = GGUFWriter(tmp_path / "Wide.gguf", tiny_base.architecture)
    wide.add_custom_alignment(4096)
    _copy_metadata(reader, wide)
    for tensor in reader.tensors:
        wide.add_tensor(tensor.name, tensor.data, raw_shape=tensor.data.shape, raw_dtype=tensor.tensor_type)
    wide.write_header_to_file()
    wide.write_kv_data_to_file()
    wide.write_tensors_to_file()
    wide.close()
    assert GGUFReader(tmp_path / "Wide.gguf").alignment == 4096
    again, plain = (weights(servable_gguf(base, adapter, tmp_path / str(number))) for number, base in enumerate((replace(tiny_base, gguf=tmp_path / "Wide.gguf"), tiny_base)))
    assert again.keys() == plain.keys() and all(np.array_equal(again[name], plain[name]) for name in plain)


def test_version_0_is_the_base_itself(tiny_base, tmp_path):
    published, served = weights(tiny_base.gguf), weights(servable_gguf(tiny_base, None, tmp_path, encoding="F16"))
    assert published.keys() == served.keys()
    assert all(np.array_equal(published[name], served[name]) for name in published)


def test_metadata_and_tokenizer_travel_along(tiny_base, adapter, tmp_path):
    again = import_base_model(str(servable_gguf(tiny_base, adapter, tmp_path)), tmp_path / "models")
    assert (again.architecture, again.context_length) == (tiny_base.architecture, tiny_base.context_length)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        assert (again.folder / file).read_bytes() == (tiny_base.folder / file).read_bytes()


def test_a_whole_file_is_used_again_and_a_killed_merge_is_not(tiny_base, adapter, tmp_path):
    first = servable_gguf(tiny_base, adapter, tmp_path)
    written = first.stat().st_mtime_ns
    assert servable_gguf(tiny_base, adapter, tmp_path).stat().st_mtime_ns == written
    first.rename(first.with_name(".merge-killed"))
    assert servable_gguf(tiny_base, adapter, tmp_path).stat().st_mtime_ns > written


def test_a_disk_that_fills_up_in_the_middle_of_a_tensor_is_named_though_numpy_does_not_say_so():
    sentence = said("no_room_to_serve", folder="merged")
    with pytest.raises(StorageFull) as error, full_disk_says(sentence), plain_errors_of_numpy(), open("/dev/full", "wb") as full:
        np.zeros(100_000).tofile(full)
    assert error.value.said == sentence and "requested and" in str(error.value.__cause__)


def test_a_disk_that_is_full_is_named_and_nothing_half_merged_stays(tiny_base, adapter, tmp_path, monkeypatch):
    folder = servable_path(tiny_base, adapter, tmp_path).parent

    def on_a_full_disk(prefix, dir):
        (file := dir / f"{prefix}full").symlink_to("/dev/full")           # the kernel's own ENOSPC
        return os.open(file, os.O_RDWR), str(file)

    with monkeypatch.context() as patch:
        patch.setattr("tempfile.mkstemp", on_a_full_disk)
        with pytest.raises(StorageFull) as error:
            servable_gguf(tiny_base, adapter, tmp_path)
    assert error.value.said == said("no_room_to_serve", folder=str(tmp_path)) and list(folder.iterdir()) == []
    assert servable_gguf(tiny_base, adapter, tmp_path).is_file()


def test_another_adapter_under_the_same_number_gets_a_file_of_its_own(tiny_base, adapter, tmp_path):
    other = write_random_lora(tiny_base, tmp_path / "other", seed=1)
    assert servable_path(tiny_base, adapter, tmp_path) != servable_path(tiny_base, other, tmp_path)


def test_merging_twice_at_once_is_harmless(tiny_base, adapter, tmp_path):
    made = []
    threads = [threading.Thread(target=lambda: made.append(servable_gguf(tiny_base, adapter, tmp_path))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(made) == 4 and len(set(made)) == 1
    assert [path.name for path in made[0].parent.iterdir()] == [made[0].name]


def test_the_sweep_keeps_what_any_process_has_loaded_and_the_two_files_taken_last(tiny_base, adapter, tmp_path):
    other = write_random_lora(tiny_base, tmp_path / "other", seed=1)
    cache = tmp_path / "cache"
    files = [servable_gguf(tiny_base, one, cache, encoding=encoding) for one in (None, adapter, other) for encoding in ("Q8_0", "F16")]
    for age, file in enumerate(reversed(files)):
        os.utime(file, (1e9 - age, 1e9 - age))
    loaded = subprocess.Popen([sys.executable, "-c", "import pathlib, sys; from chat_app.engines.gguf import held\n"
                               "file = held(pathlib.Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()", files[0]],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert loaded.stdout.readline() == "held\n"
    sweep_cache(cache)
    assert [file.exists() for file in files] == [True, False, False, False, True, True]
    loaded.kill()
    loaded.wait()
    held(files[4]).close()
    sweep_cache(cache)                                        # the first was taken when it was loaded, the fifth just now
    assert [file.exists() for file in files] == [True, False, False, False, True, False]


def test_a_merge_that_another_server_renames_while_the_sweep_looks_is_passed_over(tmp_path):
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / ".merge-renamed").symlink_to(folder / "gone")              # found by its name, and not there any more when it is looked at
    old = folder / ".merge-zold"
    old.touch()
    os.utime(old, (0, 0))
    sweep_cache(tmp_path)
    assert not old.exists()


def test_rank_stabilised_lora_divides_by_the_root_of_the_rank(tiny_base, tmp_path):
    plain = write_random_lora(tiny_base, tmp_path / "plain", seed=3)
    rooted = write_random_lora(tiny_base, tmp_path / "rooted", seed=3, use_rslora=True)
    shapes = {name: weight.shape for name, weight in weights(tiny_base.gguf).items() if weight.ndim == 2}
    read = {folder: read_deltas(folder, shapes, architecture="llama", heads=4, kv_heads=2) for folder in (plain, rooted)}
    for name, delta in read[plain].items():
        assert np.allclose(read[rooted][name].up, delta.up * 8**0.5, rtol=1e-5)  # 16/sqrt(8) against 16/8


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"bias": "all"}, "bias"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"target_modules": ["q_proj", "lm_head"]}, "lm_head"),
        ({"target_modules": ["embed_tokens"]}, "embed_tokens|lora_embedding"),
        ({"rank_pattern": {"q_proj": 4}}, "rank_pattern"),
        ({"alpha_pattern": {"q_proj": 4}}, "alpha_pattern"),
    ],
)
def test_a_form_of_lora_that_cannot_be_merged_is_refused_by_name(tiny_base, tmp_path, options, reason):
    folder = write_random_lora(tiny_base, tmp_path / "v1", **options)
    with pytest.raises(AdapterMismatch, match=reason):
        servable_gguf(tiny_base, folder, tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*/*"))


def test_an_adapter_of_another_model_is_refused(tiny_base, tmp_path):
    wider = write_tiny_gguf(tmp_path / "Wider.gguf", hidden=128, heads=8)
    folder = write_random_lora(import_base_model(str(wider), tmp_path / "models"), tmp_path / "v1")
    with pytest.raises(AdapterMismatch, match="does not fit this base model.*Set BASE_MODEL"):
        servable_gguf(tiny_base, folder, tmp_path / "cache")


def test_a_deeper_models_adapter_is_refused_though_its_shapes_fit(tiny_base, tmp_path):
    deeper = write_tiny_gguf(tmp_path / "Deeper.gguf", layers=3)
    folder = write_random_lora(import_base_model(str(deeper), tmp_path / "models"), tmp_path / "v1")
    with pytest.raises(AdapterMismatch, match="blk.2"):
        servable_gguf(tiny_base, folder, tmp_path / "cache")


@pytest.mark.parametrize("damage", ["cut", "gone", "no config", "not finite"])
def test_a_damaged_adapter_is_refused(tiny_base, tmp_path, damage):
    from safetensors.numpy import load_file, save_file

    folder = write_random_lora(tiny_base, tmp_path / "v1")
    file = folder / "adapter_model.safetensors"
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:500])
    elif damage == "gone":
        file.unlink()
    elif damage == "no config":
        (folder / "adapter_config.json").unlink()
    else:
        tensors = load_file(file)
        next(iter(tensors.values()))[0, 0] = np.nan
        save_file(tensors, file)
    with pytest.raises(CorruptAdapter):
        servable_gguf(tiny_base, folder, tmp_path / "cache")


def test_half_precision_adapters_are_read(tiny_base, adapter, tmp_path):
    import torch
    from safetensors.torch import load_file, save_file

    shapes = {name: weight.shape for name, weight in weights(tiny_base.gguf).items() if weight.ndim == 2}
    exact = read_deltas(adapter, shapes, architecture="llama", heads=4, kv_heads=2)
    folder = tmp_path / "bf16"
    folder.mkdir()
    (folder / "adapter_config.json").write_text((adapter / "adapter_config.json").read_text())
    halves = {name: weight.to(torch.bfloat16) for name, weight in load_file(adapter / "adapter_model.safetensors").items()}
    save_file(halves, folder / "adapter_model.safetensors")
    for name, delta in read_deltas(folder, shapes, architecture="llama", heads=4, kv_heads=2).items():
        assert np.allclose(delta.down, exact[name].down, rtol=2**-8)  # bfloat16 keeps 8 bits


def test_an_architecture_whose_layout_we_do_not_know_is_refused(tiny_base, tmp_path):
    with pytest.raises(ModelUnavailable, match="ENGINE=transformers"):
        servable_gguf(replace(tiny_base, architecture="gemma3"), None, tmp_path)


def test_the_config_of_a_refused_adapter_says_lora(tiny_base, adapter, tmp_path):
    folder = tmp_path / "ia3"
    folder.mkdir()
    (folder / "adapter_model.safetensors").write_bytes((adapter / "adapter_model.safetensors").read_bytes())
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "IA3"}))
    with pytest.raises(AdapterMismatch, match="not a LoRA adapter"):
        servable_gguf(tiny_base, folder, tmp_path / "cache")
