"""Checkpoints come back as they were written; what is no checkpoint is told so in one line and runs no code."""

import io
import pickle
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch
from torch import Tensor

from utils.checkpoint import fingerprint_of, load_checkpoint, load_weights, save_checkpoint
from utils.errors import UserError

WHAT = "the checkpoint of step 1"


class Hostile:
    """Unpickled, it leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def a_checkpoint() -> dict:
    """All that a step saves (SPEC 9), the state of a real optimiser and schedule with it."""
    layer = torch.nn.Linear(3, 2)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: 0.5**i)
    layer(torch.randn(4, 3)).sum().backward()
    optimizer.step()
    schedule.step()
    return {
        "epoch": 7,
        "model_state": {"stem.a": torch.randn(2, 3), "stem.b": torch.arange(4), "c": torch.ones(2).bfloat16()},
        "optimizer_state": optimizer.state_dict(),
        "scheduler_state": schedule.state_dict(),
        "best_score": 0.625,
        "trainer_state": {"finished": True, "classes": (1, 2), "name": "é", "none": None, "scaler": {}},
    }


def flat(value: object) -> list:
    """Nested values as a list in which tensors are comparable."""
    if isinstance(value, dict):
        return [part for key in value for part in (key, *flat(value[key]))]
    if isinstance(value, list | tuple):
        return [type(value), *(part for entry in value for part in flat(entry))]
    return [(value.dtype, value.tolist())] if isinstance(value, Tensor) else [value]


def refusal(path: Path, load=lambda path: load_checkpoint(path, WHAT)) -> str:
    """The message of the UserError that loading `path` raises: one line, with the file's name."""
    with pytest.raises(UserError) as error:
        load(path)
    message = str(error.value)
    assert "\n" not in message and str(path) in message
    return message


def test_a_checkpoint_comes_back(tmp_path):
    path, saved = tmp_path / "new" / "folder" / "1.pth", a_checkpoint()
    save_checkpoint(path, saved)
    assert flat(load_checkpoint(path, WHAT)) == flat(saved)
    saved["epoch"] = 8
    save_checkpoint(path, saved)
    assert load_checkpoint(path, WHAT)["epoch"] == 8
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("protocol", [0, 2])
@pytest.mark.parametrize("legacy", [True, False])
def test_code_in_a_checkpoint_does_not_run(tmp_path, legacy, protocol):
    path, trace = tmp_path / "hostile.pth", tmp_path / "ran"
    content = {"model_state": {}, "trainer_state": Hostile(trace)}
    torch.save(content, path, pickle_protocol=protocol, _use_new_zipfile_serialization=not legacy)
    for load in (lambda path: load_checkpoint(path, WHAT), load_weights):
        assert "could run code" in refusal(path, load)
    assert not trace.exists()
    with open(path, "rb") as file:  # the file is hostile indeed
        torch.load(file, weights_only=False)
    assert trace.exists()


def test_a_bare_pickle_is_refused(tmp_path):
    path, trace = tmp_path / "hostile.pkl", tmp_path / "ran"
    path.write_bytes(pickle.dumps({"model_state": Hostile(trace)}, protocol=2))
    refusal(path)
    assert not trace.exists()


@pytest.mark.parametrize("legacy", [True, False])
def test_a_file_cut_off_anywhere_is_refused(tmp_path, legacy):
    """Files of ImageNet weights and of older code are in the legacy form, which has no directory at its end."""
    buffer, path = io.BytesIO(), tmp_path / "cut.pth"
    torch.save(a_checkpoint(), buffer, _use_new_zipfile_serialization=not legacy)
    whole = buffer.getvalue()
    for length in [*range(20), *range(20, len(whole) - 1, len(whole) // 60)]:
        path.write_bytes(whole[:length])
        refusal(path)
        refusal(path, load_weights)


def damaged(whole: bytes) -> list[bytes]:
    """A hundred: cut off at 50 places, and with a bit flipped at 50."""
    random = torch.Generator().manual_seed(0)
    places = torch.randint(len(whole), (100,), generator=random).tolist()
    bits = torch.randint(8, (100,), generator=random).tolist()
    cut = [whole[:place] for place in places[:50]]
    pairs = zip(places[50:], bits[50:], strict=True)
    return cut + [whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :] for at, bit in pairs]


def test_no_damage_to_a_checkpoint_changes_what_is_read(tmp_path):
    """What is cut off is refused, and so is a flipped bit, but in the space between the tensors."""
    path, saved, refused = tmp_path / "1.pth", a_checkpoint(), 0
    saved["model_state"]["large"] = torch.randn(50, 50)
    save_checkpoint(path, saved)
    whole = path.read_bytes()
    for content in (whole[:-length] for length in range(1, 120)):
        path.write_bytes(content)
        refusal(path)
    for content in damaged(whole):
        path.write_bytes(content)
        try:
            assert flat(load_checkpoint(path, WHAT)) == flat(saved)
        except UserError:
            refused += 1
    assert refused > 80


@pytest.mark.filterwarnings("ignore:Validating sparse")
@pytest.mark.parametrize("legacy", [True, False])
def test_a_shape_that_the_file_does_not_fill_is_refused(tmp_path, legacy):
    path = tmp_path / "1.pth"
    for tensor in (torch.zeros(1).expand(1 << 40), torch.eye(3).to_sparse()):
        for content in ({"model_state": {"w": tensor}}, {"model_state": {}, "other": [{"w": tensor}]}):
            torch.save(content, path, _use_new_zipfile_serialization=not legacy)
            assert "claims the shape" in refusal(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(tmp_path, value):
    path, saved = tmp_path / "1.pth", a_checkpoint()
    saved["model_state"]["stem.a"][1, 2] = value
    save_checkpoint(path, saved)
    assert "1 values of stem.a are NaN or infinite" in refusal(path)
    save_checkpoint(path, saved["model_state"])
    assert "NaN" in refusal(path, load_weights)
    save_checkpoint(path, {"model_state": {"stem.a": "text"}})
    assert "stem.a is a str" in refusal(path)


def test_a_fingerprint_is_of_the_content(tmp_path):
    path, saved = tmp_path / "1.pth", a_checkpoint()
    save_checkpoint(path, saved)
    assert fingerprint_of(load_checkpoint(path, WHAT)) == fingerprint_of(saved)
    assert fingerprint_of({"b": [1], "a": 2}) == fingerprint_of({"a": 2, "b": [1]})
    a = torch.arange(6.0)
    others = [a + 1, a.double(), a.view(2, 3), a[:5], None, [a], {"a": a}, {"b": a}, [a, None], [1, 23], [12, 3], "1"]
    assert len({fingerprint_of(value) for value in [a, *others]}) == len(others) + 1
    assert fingerprint_of(a.view(2, 3).t()) == fingerprint_of(a.view(2, 3).t().contiguous())


@pytest.mark.parametrize("content", [b"", b"<html>\n<body>Not found</body>\n</html>", b"hello\n", b"PK\x03\x04"])
def test_what_was_never_a_checkpoint_is_refused(tmp_path, content):
    path = tmp_path / "download.pth"
    path.write_bytes(content)
    refusal(path)


def test_an_archive_of_the_first_torch_is_refused(tmp_path):
    path = tmp_path / "old.pth.tar"
    with tarfile.open(path, "w") as archive:
        for name in ("storages", "tensors", "pickle"):
            archive.addfile(tarfile.TarInfo(name))
    refusal(path, load_weights)


def test_a_missing_file_names_the_step(tmp_path):
    assert WHAT in refusal(tmp_path / "absent.pth")
    refusal(tmp_path)
    refusal(tmp_path / "absent.pth", load_weights)


@pytest.mark.parametrize("content", [{"state_dict": {}}, {}, [1, 2], torch.ones(2)])
def test_a_checkpoint_without_weights_is_refused(tmp_path, content):
    path = tmp_path / "1.pth"
    save_checkpoint(path, content)
    assert "model_state" in refusal(path)


def test_weights_lie_bare_or_under_state_dict(tmp_path):
    path, weights = tmp_path / "resnet.pth.tar", {"module.mod1.conv1.weight": torch.randn(2, 3)}
    for content in (weights, {"state_dict": weights, "epoch": 3, "arch": "resnet"}):
        save_checkpoint(path, content)
        assert flat(load_weights(path)) == flat(weights)
    for content in ([1], {"state_dict": weights, "epoch": 3} | {"state_dict": [1]}, {"epoch": 3}):
        save_checkpoint(path, content)
        assert "state dict" in refusal(path, load_weights)


def nested(depth: int) -> dict:
    content: dict = {"model_state": {}}
    for _ in range(depth):
        content = {"model_state": {}, "more": [content]}
    return content


def in_itself() -> dict:
    content = {"model_state": {}}
    content["more"] = [content, content]
    return content


def doubled() -> dict:
    """A few containers that count as many when each is gone through wherever it stands."""
    content: list = []
    for _ in range(25):
        content = [content, content]
    return {"model_state": {}, "more": content}


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (nested(40), "of its containers 30 and more lie in each other"),
        (in_itself(), "of its containers 30 and more lie in each other"),
        (doubled(), "of its containers more than 1,000,000"),
    ],
    ids=["deep", "in itself", "doubled"],
)
def test_containers_that_have_no_end_are_refused(tmp_path, content, fault):
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(UserError, match=f"a.pth is no checkpoint to trust: {fault}"):
        load_checkpoint(tmp_path / "a.pth", "a checkpoint")


def test_what_unpacks_to_more_than_it_shows_is_refused(tmp_path):
    """64 MB of zeros in a file of 70 kB."""
    torch.save({"model_state": {"a": torch.zeros(1 << 24)}}, tmp_path / "plain.pth")
    with (
        zipfile.ZipFile(tmp_path / "plain.pth") as plain,
        zipfile.ZipFile(tmp_path / "a.pth", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    assert (tmp_path / "a.pth").stat().st_size < 1e5
    with pytest.raises(UserError, match=r"a\.pth is no checkpoint to trust: it is packed, and torch packs none"):
        load_checkpoint(tmp_path / "a.pth", "a checkpoint")
