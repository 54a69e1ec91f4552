"""Cleaning where artefacts are in an object store: what is here goes, what is there stays."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from dlas.cli.app import main
from dlas.core.errors import UserError
from dlas.run.clean import clean
from dlas.store import shared_store
from dlas.store.artifacts import ArtifactStore
from dlas.store.shared_store import SharedStore
from table_rows import cell_row, fill, stack


def test_what_a_folder_keeps_of_a_shared_store_goes_and_is_fetched_again(tmp_path: Path) -> None:
    pytest.importorskip("fsspec", reason="pip install 'dlas[cluster]'")
    folder = fill(tmp_path / "out", cell_row(stack()))
    shared = SharedStore(f"memory://{uuid.uuid4().hex}/store", folder / "store")
    made = shared.scratch()
    (made / "a").write_text("one")
    content = shared.commit("k", "build", made, {}, 0).content
    assert content is not None
    before = shared.remote.names("")
    done = clean([folder])
    assert (done.objects, done.steps) == (1, 0)
    assert [*(folder / "store" / "objects").iterdir()] == []
    assert shared.remote.names("") == before
    assert (SharedStore(shared.remote.url, shared.root).path(content) / "a").read_text() == "one"


def test_a_store_in_s3_is_not_cleaned(tmp_path: Path) -> None:
    folder = fill(tmp_path / "out", cell_row(stack()))
    with pytest.raises(UserError, match=r"--store s3://lab/x: several machines share it"):
        clean([folder], store="s3://lab/x")


def test_a_store_on_a_network_file_system_is_looked_at_and_not_cleaned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = fill(tmp_path / "out", cell_row(stack()))
    store = ArtifactStore(folder / "store")
    made = store.scratch()
    (made / "a").write_text("one")
    store.commit("k", "build", made, {}, 0)
    monkeypatch.setattr(shared_store, "network_filesystem", lambda _: "nfs4")
    assert main(["clean", str(folder)]) == 2
    assert "is on a network file system (nfs4): cleaning is refused" in capsys.readouterr().err
    assert clean([folder], dry_run=True).objects == 1
    assert store.get("k") is not None
    with pytest.raises(UserError, match=r"\(nfs4\): --max-disk is refused"):
        shared_store.shared_place(None, folder / "store", 1000)
    assert shared_store.shared_place(None, folder / "store", None) == folder / "store"
