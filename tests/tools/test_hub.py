"""tools/hub.py: what is pushed is the network and a card of it; fetched, it is the same. No test knows the real Hub."""

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from safetensors.torch import save_file

from metrics.results import read_rows
from segmenter import load_segmenter
from tests.networks import save_network
from tests.tools.stand_in_hub import StandInHub
from tests.workplace import Main, Started, Workplace
from tools.hub import main

pytest.importorskip("huggingface_hub")
ROOT = Path(__file__).parents[2]
REPO = "someone/rcil-15-1"


@pytest.fixture(scope="module")
def server() -> Iterator[StandInHub]:
    with StandInHub() as server:
        yield server


def talk(server: str, home: Path, *words: object, work: Main = main) -> tuple[int, str, str]:
    """Exit code, output and error output of the tool in a process that takes `server`, "" is none, for the Hub."""
    told = {"HF_ENDPOINT": server, "HF_TOKEN": "hf_test", "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    told |= {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_OFFLINE": str(int(not server))}
    process = Started(work, [*map(str, words)], told)
    out, err = process.communicate()
    return process.returncode, out, err


def card_of(text: str) -> tuple[dict, str]:
    """Front matter and page."""
    _, front, page = text.split("---\n", 2)
    return yaml.safe_load(front), page


def use_as_the_card_says(arguments: list[str]) -> int:
    """The code in the card, on a picture; the labels go to a file."""
    card, picture, out = arguments
    [code] = re.findall(r"```python\n(.*?)```", Path(card).read_text(), re.DOTALL)
    lines = Path(out).with_name("lines_of_the_card.py")
    lines.write_text(code.replace("CHECKOUT", str(ROOT)).replace("photo.jpg", picture))
    sys.path.insert(0, str(lines.parent))
    np.save(out, importlib.import_module(lines.stem).network.predict(picture).labels)
    return 0


def test_the_card_says_what_is_in_results_and_checkpoint(trained: Workplace, tmp_path: Path):
    words = ["push", REPO, "--ckpt", trained.checkpoint(1), "--results", trained.results(), "--out", tmp_path / "out"]
    assert main([*map(str, words)]) == 0
    table = trained.results()
    names = {"README.md", "model.safetensors", table.name, table.with_suffix(".yaml").name}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    front, page = card_of((tmp_path / "out" / "README.md").read_text())
    assert (front["pipeline_tag"], front["license"], front["library_name"]) == ("image-segmentation", "mit", "rcil")
    [index] = front["model-index"]
    measured = {metric["name"]: metric["value"] for metric in index["results"][0]["metrics"]}
    rows = read_rows(table)
    assert measured["mIoU, all classes"] == pytest.approx(rows[1].overall, abs=1e-4)
    for row in rows:
        assert re.search(rf"\| {row.step} \| \d+ \|.* \| {100 * row.overall:.2f} \|", page)
    assert f"| 16 | pottedplant | 1 | {100 * rows[1].per_class[16]:.2f} |" in page
    assert "| method | RCIL |" in page and "trained with RCIL" in page and "Zhang, Chang-Bin and" in page
    assert (tmp_path / "out" / table.name).read_bytes() == table.read_bytes()
    # Nothing of the machine.
    for path in (tmp_path / "out").iterdir():
        assert str(trained.folder).encode() not in path.read_bytes() and b"data_root" not in path.read_bytes()
    options = yaml.safe_load((tmp_path / "out" / table.with_suffix(".yaml").name).read_text())
    assert (options["width"], options["overlap"], options["method"]) == (8, True, "RCIL")


def test_what_is_fetched_is_what_was_pushed(server: StandInHub, tmp_path: Path):
    save_network(tmp_path / "step.pth", "--task 15-5s_b --method MiB", 3)
    code, out, err = talk(server.address, tmp_path, "push", REPO, "--ckpt", tmp_path / "step.pth", "--with_checkpoint")
    assert (code, err) == (0, ""), err
    assert f"{server.address}/{REPO}/commit/" in out and server.private == {REPO: False}
    files = server.repositories[REPO]
    assert set(files) == {"README.md", "model.safetensors", "step.pth"}
    assert files["step.pth"] == (tmp_path / "step.pth").read_bytes()
    code, out, err = talk(server.address, tmp_path, "fetch", REPO, "--out", tmp_path / "got")
    assert (code, out) == (0, f"{tmp_path}/got/model.safetensors: step 3 of voc, 19 classes\n"), err
    assert (tmp_path / "got" / "model.safetensors").read_bytes() == files["model.safetensors"]
    noise = np.random.default_rng(0).integers(0, 256, (9, 11, 3), np.uint8)
    picture = tmp_path / "photo.png"
    Image.fromarray(noise).resize((110, 90), Image.Resampling.BICUBIC).save(picture)
    (tmp_path / "README.md").write_bytes(files["README.md"])
    words = tmp_path / "README.md", picture, tmp_path / "labels.npy"
    code, _, err = talk(server.address, tmp_path, *words, work=use_as_the_card_says)
    assert code == 0, err
    labels = load_segmenter(tmp_path / "step.pth").predict(picture).labels
    assert len(np.unique(labels)) > 3 and (np.load(tmp_path / "labels.npy") == labels).mean() > 0.99


def test_what_the_hub_refuses_is_one_line(server: StandInHub, tmp_path: Path):
    save_file({}, tmp_path / "other.safetensors")
    server.repositories["someone/other"] = {"model.safetensors": (tmp_path / "other.safetensors").read_bytes()}
    for address, repo, says in (
        (server.address, "someone/none", r"error: someone/none: .*404.*; see HF_TOKEN, HF_ENDPOINT and HF_HUB_OFFLINE"),
        (server.address, "a/b/c", r"error: a/b/c: Repo id must be"),
        (server.address, "someone/other", r"error: .*/model.safetensors does not say what it is of: name a file"),
        ("", "someone/none", r"error: someone/none: .*; see HF_TOKEN, HF_ENDPOINT and HF_HUB_OFFLINE"),
    ):
        code, out, err = talk(address, tmp_path / "home", "fetch", repo, "--out", tmp_path / "other")
        assert (code, out) == (2, "") and re.fullmatch(f"{says}.*\n", err), err
    assert not (tmp_path / "other").exists()


def test_bad_input_writes_nothing(
    trained: Workplace, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    save_network(tmp_path / "other.pth", "--task 15-5s_b --overlap", 0)
    table, checkpoint = trained.results(), trained.checkpoint(1)
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / table.name).write_text(table.read_text().splitlines(keepends=True)[0])
    for words, says in (
        (("a b", "--ckpt", checkpoint), "a b: Repo id must"),
        ((REPO, "--ckpt", checkpoint, "--results", tmp_path / "results" / table.name), "has no row of step 1 with 17"),
        ((REPO, "--ckpt", tmp_path / "other.pth", "--results", table), "is of another classes than"),
    ):
        assert main([*map(str, ("push", *words, "--out", tmp_path / "out"))]) == 2
        error = capsys.readouterr().err
        assert says in error and error.count("\n") == 1 and not (tmp_path / "out").exists()
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert main(["push", REPO, "--ckpt", str(checkpoint)]) == 2
    said = "error: the package huggingface_hub is not installed: pip install huggingface_hub\n"
    assert capsys.readouterr().err == said
