"""`ENGINE=auto`: which engine a model is served by, on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from chat_app import engines
from chat_app.engines import engine_name, make_engine


def test_auto_is_openvino_for_a_gguf_and_needs_no_torch(tiny_base, tmp_path):
    line = (
        "import sys; from pathlib import Path\n"
        "from chat_app.engines import make_engine; from data.base_models import load_base_model\n"
        "from data.records import Sampling\n"
        "engine = make_engine('auto', load_base_model(Path(sys.argv[1])), Path(sys.argv[2])); engine.load(0, None)\n"
        "list(engine.stream([5, 6], Sampling(max_new_tokens=4), 0)); engine.close()\n"
        "sys.exit(engine.name != 'openvino' or 'torch' in sys.modules)"
    )
    command = [sys.executable, "-c", line, str(tiny_base.folder), str(tmp_path)]
    subprocess.run(command, check=True, timeout=120, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""})


@pytest.mark.parametrize(("driver", "build", "engine"), [
    ((0, 1), "libtorch_cuda.so", "transformers"),
    ((0, 0), "libtorch_cuda.so", "openvino"),             # a driver, and no card that this process may use
    ((100, 1), "libtorch_cuda.so", "openvino"),           # cuInit's "no device", as with CUDA_VISIBLE_DEVICES=""
    (None, "libtorch_cuda.so", "openvino"),
    ((0, 1), "libtorch_cpu.so", "openvino"),              # a card, and a torch that cannot use it
])
def test_auto_is_transformers_where_the_driver_counts_a_gpu_and_torch_is_built_for_it(driver, build, engine, tiny_base, tmp_path, monkeypatch):
    def library(name):
        if name != "libcuda.so.1" or driver is None:
            raise OSError(f"{name}: cannot open shared object file")
        return SimpleNamespace(cuInit=lambda flags: driver[0], cuDeviceGetCount=lambda count: setattr(count._obj, "value", driver[1]) or 0)

    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / build).touch()
    monkeypatch.setattr("ctypes.CDLL", library)
    monkeypatch.setattr(engines, "find_spec", lambda name: SimpleNamespace(origin=str(tmp_path / "__init__.py")))
    assert engine_name("auto", tiny_base) == engine
    assert engine_name("openvino", tiny_base) == "openvino"                # what is asked for by name stays


def test_auto_is_transformers_where_there_is_no_gguf(tiny_base, tmp_path):
    from dataclasses import replace

    assert make_engine("auto", replace(tiny_base, gguf=None), tmp_path).name == "transformers"
    assert make_engine("auto", replace(tiny_base, architecture="gemma3"), tmp_path).name == "transformers"
