"""The table of several learner processes is of processes that did the work."""

import json

import pytest

from benchmarks.scaling import main


@pytest.mark.slow
def test_every_row_is_of_processes_that_split_the_same_replies_whole_or_by_parts_of_layers(tiny_base, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("benchmarks.scaling.usable_cpus", lambda: 2)
    kept = tmp_path / "scaling.json"
    assert main(["--base-model", str(tiny_base.gguf), "--models", str(tmp_path), "--steps", "2", "--batch-size", "4", "--json", str(kept)]) == 0
    head, _, *table = capsys.readouterr().out.strip().splitlines()
    found = json.loads(kept.read_text())["rows"]
    assert [(row["processes"], row["threads"], row["layers"]) for row in found] == [(1, 1, "whole"), (1, 2, "whole"), (2, 1, "whole"), (2, 1, "parts")]
    columns = [[cell.strip() for cell in line.strip("|").split("|")] for line in (head, *table)]
    assert len(table) == 4 and {len(cells) for cells in columns} == {8}
    assert all(float(cell) > 0 for cells in columns[1:] for cell in cells[3:]) and columns[1][columns[0].index("speed-up")] == "1.00"
    a_step = [row["training_tokens_per_second"] * row["step_seconds"] for row in found]
    assert a_step[0] > 4 * 80 and a_step == pytest.approx([a_step[0]] * 4)                                  # tokens: the same in every row
