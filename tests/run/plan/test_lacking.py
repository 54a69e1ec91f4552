"""A plan goes on where files of weights are missing, and says so; a run refuses, all at once."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from dlas.cli.app import main
from dlas.cli.display import preview_text
from dlas.core.errors import UserError
from dlas.core.keys import is_unknown
from dlas.run.plan.lacking import Lacking
from dlas.run.plan.plan import make
from dlas.run.plan.preview import preview
from dlas.store.artifacts import ArtifactStore
from dlas.study.study import Study

pytest.importorskip("torch")

HERE = {"resnet-8": {"seed": 3, "weights": "w/of mine.safetensors"}}
OTHER = {"torch": {"factory": "own:build", "weights": "w/other.pt"}}
OWN = "raise AssertionError('a plan runs nothing')"


def study(folder: Path, *models: object, **layers: object) -> Study:
    data = {
        "dlas": 1,
        "name": "lacking",
        "layers": {
            "dataset": [{"digits": {"size": 12}}],
            "model": list(models),
            "optimization": ["none", {"weight-pruning": {"sparsity": 0.5, "epochs": 0}}],
            "software": ["pytorch", "onnxruntime"],
            **layers,
        },
        "measure": {"accuracy_samples": 0, "ceilings": False},
    }
    (folder / "own.py").write_text(OWN)
    (folder / "lacking.yaml").write_text(json.dumps(data))
    return Study.load(folder / "lacking.yaml")


def previewed(of: Study, store: Path | None = None) -> dict[str, Any]:
    with of.inside():
        return preview(of, store)


def test_counts_are_those_of_a_study_whose_files_are_there(tmp_path: Path) -> None:
    lacks = study(tmp_path, HERE, OTHER)
    before = previewed(lacks)
    (tmp_path / "w").mkdir()
    for name in ("of mine.safetensors", "other.pt"):
        (tmp_path / "w" / name).write_bytes(name.encode())
    after = previewed(lacks)
    assert (len(before["missing_weights"]), after["missing_weights"]) == (2, [])
    for part in ("cells", "by_stage", "steps", "steps_unshared", "measurements", "by_dataset"):
        assert before[part] == after[part], part
    assert before["cells"] == 8 == before["cells_by_status"]["runnable"]
    assert before["by_stage"]["prepare"] == 2
    assert before["by_stage"]["optimize"] == 2


def test_a_plan_names_the_files_and_how_to_make_them(tmp_path: Path) -> None:
    found = previewed(study(tmp_path, HERE, OTHER, "resnet-8"))
    assert [Lacking(**each) for each in found["missing_weights"]] == [
        Lacking(
            "w/of mine.safetensors",
            4,
            "dlas train 'resnet-8: {seed: 3}' 'digits: {size: 12}' --out 'w/of mine.safetensors'",
        ),
        Lacking("w/other.pt", 4, ""),  # `dlas train` writes safetensors
    ]
    text = preview_text(found)
    assert "missing weights: 2 files, which 8 of 12 cells need." in text
    assert "`dlas run` refuses" in text
    assert "  w/other.pt: 4 cells\n" in text
    assert f"In {tmp_path} (" in text
    assert text.endswith("  " + found["missing_weights"][0]["train"])


def test_the_command_makes_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lacks = study(tmp_path, HERE)
    (missing,) = previewed(lacks)["missing_weights"]
    (tmp_path / "w").mkdir()
    monkeypatch.chdir(tmp_path)
    command = shlex.split(missing["train"])
    assert command[0] == "dlas"
    assert main([*command[1:], "--epochs", "1", "--limit", "64"]) == 0
    assert previewed(lacks)["missing_weights"] == []
    assert not any(map(is_unknown, make(lacks).steps))


def test_what_rests_on_a_missing_file_has_no_key_and_no_store_takes_it(tmp_path: Path) -> None:
    lacks = study(tmp_path, HERE, "resnet-8")
    with lacks.inside():
        plan = make(lacks, without_weights=True)
    mine = [c for c in plan.runnable if c.stack.model[0].params["weights"]]
    assert len(mine) == 4 == len(plan.runnable) / 2
    for cell in plan.runnable:
        without = [k for k in cell.steps if is_unknown(k)]
        expected = [k for k in cell.steps if k != cell.inputs] if cell in mine else []
        assert without == expected
    assert {c.cell for c in plan.runnable} == {s.cell for s in lacks.stacks}
    store = ArtifactStore(tmp_path / "store")
    for use in (store.get, store.forget, store.lock, store.generation):
        with pytest.raises(ValueError, match="is no key"):
            use(mine[0].build)
    with pytest.raises(ValueError, match="is no key"):
        store.commit(mine[0].build, "build", store.scratch(), {}, 0)
    assert previewed(lacks, tmp_path / "store")["sizes_known"] == 0


def test_a_run_refuses_with_all_files_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = {"image-folder": {"root": "nowhere"}}
    study(tmp_path, HERE, OTHER, dataset=["digits", nowhere])
    given = ["run", str(tmp_path / "lacking.yaml"), "--out", str(tmp_path / "out"), "--quiet"]
    assert main(given) == 2
    said = capsys.readouterr().err
    for place in ("w/of mine.safetensors", "w/other.pt", "nowhere"):
        assert said.count(f"'{place}'") == 1, said
    assert not list((tmp_path / "out" / "store" / "steps").iterdir())


def test_a_plan_refuses_what_else_is_missing(tmp_path: Path) -> None:
    absent = {"torch": {"factory": "not_here:build", "weights": "w/a.pt"}}
    other = {"torch": {"factory": "nor_here:build"}}
    with pytest.raises(UserError) as error:
        previewed(study(tmp_path, absent, other, HERE, dataset=[{"image-folder": {"root": "x"}}]))
    said = str(error.value)
    assert "'nor_here'" in said
    assert "'x'" in said
    assert "safetensors" not in said
