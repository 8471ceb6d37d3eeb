"""As much of the Hugging Face Hub as a download needs, and a folder that is found there."""

from __future__ import annotations

import hashlib
import json
from http.server import BaseHTTPRequestHandler
from pathlib import Path


def transformers_folder(base, folder: Path) -> Path:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base.folder, gguf_file="base.gguf")
    del model.config.quantization_config
    model.hf_quantizer = None
    model.save_pretrained(folder)
    config = json.loads((base.folder / "tokenizer_config.json").read_text())
    del config["eos_token_ids"]
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_bytes((base.folder / "tokenizer.json").read_bytes())
    return folder


class Hub(BaseHTTPRequestHandler):
    """As much of the Hugging Face Hub as a download needs: one repository, its listing and its files."""

    folder: Path

    def do_HEAD(self):
        self._answer(body=False)

    def do_GET(self):
        self._answer(body=True)

    def _answer(self, body: bool):
        commit = "0123456789abcdef0123456789abcdef01234567"
        content, status = b"", 404
        if self.path.startswith("/api/models/tiny-org/tiny/tree"):
            files = [{"type": "file", "path": path.name, "size": path.stat().st_size, "oid": path.name} for path in self.folder.iterdir()]
            content, status = json.dumps(files).encode(), 200
        elif self.path.startswith("/api/models/tiny-org/tiny"):
            names = [{"rfilename": path.name} for path in sorted(self.folder.iterdir())]
            content, status = json.dumps({"id": "tiny-org/tiny", "sha": commit, "siblings": names}).encode(), 200
        elif self.path.startswith("/tiny-org/tiny/resolve/") and (self.folder / self.path.rsplit("/", 1)[-1]).is_file():
            content, status = (self.folder / self.path.rsplit("/", 1)[-1]).read_bytes(), 200
        self.send_response(status)
        self.send_header("X-Repo-Commit", commit)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_):
        pass
