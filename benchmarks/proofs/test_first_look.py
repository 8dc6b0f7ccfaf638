"""docs/first_look.ipynb runs from a checkout, and shows what the stored one shows."""

from pathlib import Path
from typing import Any

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

DOCS = Path(__file__).parents[2] / "docs"
NOTEBOOK = DOCS / "first_look.ipynb"


def shown(notebook: Any) -> list[list[str]]:
    """What each cell gives: the stream of a text, or the best form of a result."""
    return [
        [output.get("name") or max(output.data, key="image/png".__eq__) for output in cell.get("outputs", ())]
        for cell in notebook.cells
    ]


def test_the_notebook_runs_and_shows_what_is_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    stored, notebook = (nbformat.read(NOTEBOOK, 4) for _ in range(2))
    [size] = [cell for cell in notebook.cells if cell.source.startswith("pictures, epochs = ")]
    size.source = 'pictures, epochs = 16, "1"'
    before = {*DOCS.parent.iterdir(), *DOCS.iterdir()}
    place = {"metadata": {"path": str(DOCS)}}
    nbclient.NotebookClient(notebook, timeout=120, coalesce_streams=True, resources=place).execute()
    assert shown(notebook) == shown(stored) and sum(cell.count("image/png") for cell in shown(stored)) == 6
    assert {*DOCS.parent.iterdir(), *DOCS.iterdir()} == before
    assert not [path for path in tmp_path.iterdir() if (path / "results").exists()]


def test_the_stored_notebook_is_small_and_names_no_folder_of_its_machine():
    outputs = [output for cell in nbformat.read(NOTEBOOK, 4).cells for output in cell.get("outputs", ())]
    text = "".join(output.get("text", "") for output in outputs)
    assert "mIoU" in text and " /" not in text and NOTEBOOK.stat().st_size < 500_000
