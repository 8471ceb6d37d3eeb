"""The arrows between the packages, read from the imports."""

import ast
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
WITH_TORCH = {"chat_app/engines/transformers.py", "chat_app/engines/transformers_batches.py"}
"""The one engine; the learner may import it anywhere."""
SQL = ("SELECT ", "INSERT INTO", "UPDATE ", "DELETE FROM", "CREATE TABLE", "PRAGMA ")


def modules(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def imported(path: Path) -> set[str]:
    """Top-level names that a file imports anywhere, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module.split(".")[0])
    return names


def offenders(paths: list[Path], forbidden: set[str], allowed: set[str] = frozenset()) -> list[str]:
    return [f"{path.relative_to(ROOT)} imports {sorted(imported(path) & forbidden)}" for path in paths
            if imported(path) & forbidden and str(path.relative_to(ROOT)) not in allowed]


def test_the_chat_app_and_the_learner_never_import_each_other_and_data_imports_neither():
    assert offenders(modules("chat_app"), {"learner"}) == []
    assert offenders(modules("learner"), {"chat_app"}, {"learner/__main__.py"}) == []
    assert offenders(modules("data"), {"learner", "chat_app", "app"}) == []


def rooms(folder: str) -> set[str]:
    """`package.x` of everything that a file of `folder`, `package/y`, imports from the rooms beside it."""
    package = folder.split("/")[0]
    found = {node.module for path in modules(folder) for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
             if isinstance(node, ast.ImportFrom) and node.module}
    return {".".join(name.split(".")[:2]) for name in found if name.startswith(f"{package}.")} - {folder.replace("/", ".")}


def test_each_room_of_the_learner_imports_those_before_it_alone():
    order = ["errors", "config", "model", "training", "feedback", "reward", "refine", "gates", "runs"]
    for place, room in enumerate(order[2:], 2):
        assert rooms(f"learner/{room}") <= {f"learner.{name}" for name in order[:place]}, room


def test_inside_the_data_layer_records_know_nobody_and_the_store_no_host_and_no_model():
    assert rooms("data/records") == set()
    assert rooms("data/texts") == {"data.records"}
    assert rooms("data/store") <= {"data.errors", "data.processes", "data.records", "data.sentences", "data.texts"}
    assert "data.sync" not in rooms("data/base_models")


def test_gradio_stays_in_the_chat_app_and_torch_in_the_learner_and_one_engine():
    assert offenders([*modules("data", "learner")], {"gradio"}) == []
    assert offenders(modules("data", "chat_app"), {"torch", "peft"}, WITH_TORCH) == []
    contributing = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert set(re.findall(r"`(chat_app/engines/\w+\.py)`", contributing)) == WITH_TORCH


def test_sql_is_written_in_the_data_layer_alone():
    found = []
    for path in [*modules("chat_app", "learner"), ROOT / "app.py"]:
        if "sqlite3" in imported(path) or "sqlite_utils" in imported(path):
            found.append(f"{path.relative_to(ROOT)} imports a database library")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.lstrip().startswith(SQL):
                found.append(f"{path.relative_to(ROOT)}:{node.lineno} holds SQL")
    assert found == []


def test_no_module_constant_holds_a_path():
    found = []
    for path in modules("data", "chat_app", "learner"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and getattr(node.value.func, "id", "") == "Path":
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert found == []


def test_importing_the_server_and_its_cpu_engine_does_not_import_torch():
    code = ("import sys, app, chat_app.engines.openvino\n"
            "assert 'torch' not in sys.modules, sorted(m for m in sys.modules if m.startswith('torch'))[:5]")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
