"""Classification: whole images are maps of one pixel, and all else is as where pixels are labelled."""

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchvision.models import resnet18

from argparser import parse
from config import DataConfig, OptimConfig
from dataset import imagefolder
from methods import METHODS
from methods.base import Batch
from methods.features import fitting, pooled_cube
from methods.losses import binary_cross_entropy, cross_entropy, distillation
from metrics.results import read_rows
from metrics.scores import TOP_1, Scores
from modules.imagenet import body_from_imagenet
from segmentation_module import SegmentationNet, build_network, build_student, load_network
from tasks import Facts, get_task
from tests.helpers import body_of, data_of, largest_difference, randomise_, run_processes, small_config
from tests.trainers import trainer_of
from tests.workplace import DATE, StopAt, Workplace, assert_same, load
from tools import body, check_data, convert, predict
from tools.make_shapes import make_shapes
from train import evaluate
from utils.checkpoint import load_weights
from utils.distributed import Dist, world_size
from utils.errors import UserError

SERVING = sorted(name for name, method in METHODS.items() if "images" in method.serves)
STEP = get_task(Facts(dataset="imagefolder", kind="image", num_units=5, num_classes=5), "3-2").step(1)
SIZES = {"backbone": "resnet18", "width": 4, "crop_size": 32, "resize_size": 32, "batch_size": 8, "epochs": 1}
TINY = [word for name, value in SIZES.items() for word in (f"--{name}", value)]
POOLED = {"backbone": "resnet18", "head": "pool", "output_stride": 32}
FIRST = ("arrow", "clover", "crescent")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of five classes. Not to be changed."""
    root = tmp_path_factory.mktemp("images") / "data"
    make_shapes(root, layout="imagefolder", train=100, val=40, size=32, workers=1)
    for folder in root.glob("*/*"):
        if folder.name not in (*FIRST, "cross", "disc"):
            shutil.rmtree(folder)
    return root


def options(workplace: Workplace, *more: object) -> list[str]:
    return workplace.options("--dataset", "imagefolder", "--task", "3-2", "--no_overlap", *TINY, *more)


def network_of(branches: int = 2, classes_per_head: tuple[int, ...] = (3,)) -> SegmentationNet:
    config = small_config(**POOLED)
    return randomise_(build_network(config, branches=branches, classes_per_head=classes_per_head), seed=0)


def test_the_losses_are_the_plain_ones_on_maps_of_one_pixel():
    torch.manual_seed(0)
    student, teacher, labels = torch.randn(6, 5), torch.randn(6, 3), torch.tensor([0, 3, 255, 4, 4, 1])
    maps = student[..., None, None], teacher[..., None, None], labels[:, None, None]
    kept = labels != 255
    # An ignored image counts as zero in the mean.
    expected = F.cross_entropy(student[kept], labels[kept], reduction="sum") / 6
    torch.testing.assert_close(cross_entropy(maps[0], maps[2]), expected)
    soft = F.kl_div(student[:, :3].log_softmax(1), teacher.softmax(1), reduction="batchmean")
    entropy = -(teacher.softmax(1) * teacher.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(distillation(maps[0], maps[1]), (soft + entropy) / 3)
    targets = F.one_hot(labels.where(kept, torch.tensor(5)), 6)[:, :5].float()
    per_image = F.binary_cross_entropy_with_logits(student, targets, reduction="none").sum(1)
    torch.testing.assert_close(binary_cross_entropy(maps[0], maps[2]), (per_image * kept).sum() / 6)


@pytest.mark.parametrize("name", ["MiB", "RCIL", "PLOP"])
def test_a_method_for_a_background_takes_the_plain_terms(name: str):
    """And new classifiers do not start as class 0."""
    method = METHODS[name](METHODS[name].Config(), STEP)
    previous = network_of(method.config.branches)
    student = build_student(previous, new_classes=2)
    method.shape(student, previous)
    before = student.classifiers[-1].weight.clone()
    method.initialise(student, previous)
    assert torch.equal(student.classifiers[-1].weight, before)
    images, labels = torch.randn(4, 3, 64, 64), torch.tensor([3, 4, 3, 4])[:, None, None]
    student.eval()
    seen, known = student(images), previous.for_inference()(images)
    terms = method.losses(Batch(images, labels), seen, known)
    torch.testing.assert_close(terms["ce"], F.cross_entropy(seen.logits[:, :, 0, 0], labels.flatten()))
    if "kd" in terms:
        torch.testing.assert_close(terms["kd"], method.config.loss_kd * distillation(seen.logits, known.logits))


def test_the_cube_has_the_stages_alone_and_windows_that_fit():
    torch.manual_seed(1)
    assert fitting((4, 8, 12), torch.empty(1, 1, 8, 9)) == (4, 8) and fitting((4, 8), torch.empty(1, 1, 2, 3)) == (2,)
    config = METHODS["RCIL"].Config(pool_sizes=(2, 4), spatial_factors=(3.0, 0.0), channel_factors=(5.0, 0.0))
    network, other = network_of(), randomise_(network_of(), seed=3)
    images = torch.randn(2, 3, 64, 64)
    seen, known = network.eval()(images), other.eval()(images)
    spatial, channel = [], []
    for name in ("layer1", "layer2", "layer3", "layer4"):
        difference = known.features[name].double() ** 2 - seen.features[name].double() ** 2
        sizes = [size for size in (2, 4) if size <= min(difference.shape[2:])]
        pooled = [F.avg_pool2d(difference, size, 1, size // 2) for size in sizes]
        spatial.append(torch.stack([p.flatten(1).norm(dim=1).mean() for p in pooled]).mean())
        across = F.avg_pool1d(difference.movedim(1, 3).flatten(1, 2), 3, 1, 1)
        channel.append(across.flatten(1).norm(dim=1).mean())
    terms, schedule = pooled_cube(seen, known, STEP, config), (5 / 2) ** 0.5
    assert terms["cube_spatial"].item() == pytest.approx(3 * schedule * torch.stack(spatial).mean().item(), rel=1e-5)
    assert terms["cube_channel"].item() == pytest.approx(5 * schedule * torch.stack(channel).mean().item(), rel=1e-5)


def test_merging_keeps_the_outputs():
    network = network_of(2, (3, 2)).eval()
    images = torch.randn(2, 3, 64, 64)
    logits = network(images).logits
    assert logits.shape == (2, 5, 1, 1)
    assert largest_difference(network.for_inference()(images).logits, logits) < 1e-5
    for form in (network, network.merged()):
        options = {"branches": 1 + (form is network), "classes_per_head": (3, 2)}
        loaded = load_network(small_config(**POOLED), form.state_dict(), **options)
        assert loaded.form == form.form


def test_step_by_step_each_class_arrives_once_and_none_hides(pictures: Path):
    data = data_of(DataConfig(dataset="imagefolder", data_root=pictures, task="3-2", crop_size=32, batch_size=2))
    assert data.class_names == [*FIRST, "cross", "disc"]
    assert [step.order for step in data.task.steps] == [(0, 1, 2), (0, 1, 2, 3, 4)]
    assert [step.classes_per_head for step in data.task.steps] == [(3,), (3, 2)]
    for step, of_step in zip(data.task.steps, data.sets, strict=True):
        names = [data.class_names[label] for label in step.new_classes]
        assert {sample.image.parent.name for sample in of_step.train} == {*names}
        expected = Counter(sample.image.parent.name for sample in of_step.test)
        shown = Counter(int(label) for _, labels in data.test(step) for label in labels.flatten())
        assert shown == {data.class_names.index(name): count for name, count in expected.items()}
        [images, labels], *_ = data.train(step).epoch(0)
        assert (
            images.shape == (2, 3, 32, 32)
            and labels.shape == (2, 1, 1)
            and {*labels.flatten().tolist()} <= {*step.new_classes}
        )


@pytest.mark.parametrize("name", SERVING)
def test_every_method_that_serves_them(pictures: Path, tmp_path: Path, name: str):
    workplace = Workplace(tmp_path, pictures)
    small = ("--expansion", 32) if name == "CFSSeg" else ()
    assert workplace.main(options(workplace, "--method", name, "--no_visualize", "--mem_size", 4, *small)) == 0
    table = tmp_path / "results" / f"{DATE}_imagefolder_3-2_tiny.csv"
    rows = read_rows(table)
    assert [len(row.per_class) for row in rows] == [3, 5] and {row.measure for row in rows} == {TOP_1}
    memory = load(tmp_path / "checkpoints" / "3-2-imagefolder_tiny_1.pth")["trainer_state"]["memory"]
    assert sorted(Path(image).parent.name for image, _ in memory) in [sorted([*FIRST, extra]) for extra in FIRST]
    assert all(Path(image).parent.name == FIRST[label] for image, [label] in memory)


@pytest.mark.parametrize("name", sorted(METHODS.keys() - {*SERVING}))
def test_the_others_say_why(pictures: Path, name: str):
    with pytest.raises(UserError, match=r"classes of whole images arrive: .*(there is none|has no)"):
        parse(["--dataset", "imagefolder", "--data_root", str(pictures), "--task", "3-2", "--method", name])


def test_a_run_that_is_cut_off_ends_as_one_that_was_not(pictures: Path, tmp_path: Path, stop_at: StopAt):
    """RCIL with a memory; and what a run leaves for people and tools."""
    whole, cut = (Workplace(tmp_path / name, pictures) for name in ("whole", "cut"))
    line = ("--method", "RCIL", "--mem_size", 6, "--sample_num", 2)
    assert whole.main(options(whole, *line)) == 0
    for step, iteration in ((0, 1), (1, 1)):
        stop_at(15, step, iteration)
        assert cut.main(options(cut, *line)) == 143
    stop_at(0, -1, -1)
    assert cut.main(options(cut, *line)) == 0
    results = Path("results") / f"{DATE}_imagefolder_3-2_tiny.csv"
    for step in (0, 1):
        file = f"checkpoints/3-2-imagefolder_tiny_{step}.pth"
        assert_same(load(whole.folder / file), load(cut.folder / file))
    assert (whole.folder / results).read_bytes() == (cut.folder / results).read_bytes()
    assert (whole.folder / results).read_text().startswith("# top-1:")
    row = read_rows(whole.folder / results)[1]
    events = [json.loads(line) for line in (whole.folder / results).with_suffix(".jsonl").read_text().splitlines()]
    test = next(event for event in events if event["event"] == "test" and event["step"] == 1)
    assert test["top_1"] == row.overall and [*test["accuracy"].values()] == [*row.per_class] and "miou" not in test
    logs = whole.folder / "logs" / "3-2-imagefolder" / "tiny" / "pictures"
    assert (logs / "samples_step1.png").is_file() and (logs / "top-1.png").is_file()
    checkpoint = str(whole.folder / "checkpoints" / "3-2-imagefolder_tiny_1.pth")
    out = tmp_path / "found"
    assert predict.main(["--ckpt", checkpoint, "--out", str(out), str(pictures / "val" / "disc")]) == 0
    lines = (out / "predictions.csv").read_text().splitlines()
    assert len(lines) == 1 + 5 * len([*(pictures / "val" / "disc").iterdir()])
    assert sum(float(line.rsplit(",", 1)[1]) for line in lines[1:6]) == pytest.approx(1, abs=1e-3)
    assert convert.main(["--ckpt", checkpoint, "--to", "authors", "--out", str(tmp_path / "a.pth")]) == 2


def trained_in(rank: int, folder: Path) -> dict[str, list[float]]:
    """Losses, by iteration, and the confusion matrix of RCIL in step 1, in float64."""
    processes, model = world_size(), POOLED | {"drop_path": False}
    dist = Dist(rank=rank, world_size=processes, device=torch.device("cpu"))
    config = DataConfig(
        **{"dataset": "imagefolder", "data_root": folder / "data", "task": "3-2", "crop_size": 32, "resize_size": 32},
        **{"num_workers": 0, "batch_size": 4 // processes},
    )
    data = data_of(config, rank=rank, world_size=processes)
    step = data.task.step(1)
    batches, optim = data.train(step), OptimConfig(lr=(1e-4,), epochs=(1,))
    options = {"data": config, "model": small_config(**model), "optim": optim, "dist": dist, "dtype": torch.float64}
    trainer = trainer_of(METHODS["RCIL"], step, batches, **options)
    losses = list(trainer.train_epoch())
    counts = evaluate(trainer.teacher, data.test(step), num_classes=5, dist=dist, title="")
    by_term = {name: [of_it[name] for of_it in losses] for name in losses[0]}
    return by_term | {"counts": counts.matrix.flatten().tolist()}


def test_two_processes_learn_and_score_as_one(pictures: Path, tmp_path: Path):
    (tmp_path / "data").symlink_to(pictures)
    one = trained_in(0, tmp_path)
    assert one.keys() == {"ce", "kd", "cube_spatial", "cube_channel", "total", "counts"} and len(one["ce"]) > 1
    for found in run_processes(trained_in, tmp_path):
        assert found.keys() == one.keys() and found["counts"] == one["counts"] and sum(found["counts"]) > 9
        assert all(found[name] == pytest.approx(one[name], rel=1e-6) for name in one)


def test_top_1_is_the_part_of_all_images_that_is_right():
    scores = Scores.from_matrix(np.array([[3, 1], [0, 1]]), TOP_1)
    assert (scores.overall, scores.mean_accuracy, [*scores.per_class]) == (4 / 5, 7 / 8, [3 / 4, 1])
    assert scores.means == {"top_1": 4 / 5, "mean_accuracy": 7 / 8}


def test_what_is_wrong_with_the_folders_is_said_a_line_each(pictures: Path, tmp_path: Path, capsys):
    root = tmp_path / "data"
    shutil.copytree(pictures, root)
    shutil.rmtree(root / "val" / "arrow")
    for picture in (root / "val" / "clover").iterdir():
        picture.unlink()
    (root / "val" / "house").mkdir()
    broken = next((root / "train" / "disc").iterdir())
    broken.write_bytes(broken.read_bytes()[:100])
    assert check_data.main(["imagefolder", str(root), "--task", "3-2", "--sheet", str(tmp_path / "a.png")]) == 1
    said = capsys.readouterr().out
    for line in (
        f"no folder {root / 'val' / 'arrow'}: put the pictures of that class there",
        f"no picture in {root / 'val' / 'clover'}; put some there",
        f"{root / 'val' / 'house'} is no class: train has no such folder",
        f"image {broken} cannot be read",
    ):
        assert said.count(line) == 1
    shutil.copy(pictures / broken.relative_to(root), broken)
    workplace = Workplace(tmp_path, root)
    assert workplace.main(options(workplace, "--method", "FT")) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: no folder {root / 'val' / 'arrow'}") and "(and 2 more" in error
    assert error.count("\n") == 1


def test_a_list_names_the_classes_and_their_order(pictures: Path, tmp_path: Path):
    listed = tmp_path / "list.txt"
    listed.write_text("disc a round thing\n\narrow\ncross a round thing\n")
    config = DataConfig(dataset="imagenet100", data_root=pictures, task="2-1", class_list=listed, crop_size=32)
    data = data_of(config)
    assert data.class_names == ["a round thing disc", "arrow", "a round thing cross"]
    assert {sample.image.parent.name for sample in data.sets[1].train} == {"cross"}
    listed.write_text("disc\ndisc again\n")
    with pytest.raises(UserError, match="names disc 2 times"):
        imagefolder.spec(config)
    usual = imagefolder.imagenet100(DataConfig())
    assert len({*usual.class_names}) == 100 and usual.class_names[:2] == ("tiger", "vacuum")


@pytest.mark.parametrize(("method", "branches"), [("FT", 1), ("RCIL", 2)])
def test_a_body_starts_another_network(pictures: Path, tmp_path: Path, method: str, branches: int, capsys):
    """Under torchvision's names, merged where it was dual, and with the function that it had."""
    workplace = Workplace(tmp_path, pictures)
    line = ["--method", method, "--step", 0, "--no_visualize"]
    assert workplace.main(options(workplace, *line)) == 0
    checkpoint = tmp_path / "checkpoints" / "3-2-imagefolder_tiny_0.pth"
    out, words = tmp_path / "body.pth", ["--ckpt", str(checkpoint), "--out", str(tmp_path / "body.pth")]
    if branches == 2:
        assert body.main(words) == 2 and "without norms: give --images" in capsys.readouterr().err
    assert body.main([*words, "--images", str(pictures / "train")]) == 0
    weights = torch.load(out, weights_only=True)
    theirs = {name for name in resnet18().state_dict() if not name.startswith("fc.")}
    assert weights.keys() == {name for name in theirs if not name.endswith("num_batches_tracked")}
    options_of_body = {"output_stride": 32, "width": 4, "stem_activation": branches == 1}
    plain = body_of("resnet18", **options_of_body)
    plain.load_state_dict(body_from_imagenet(weights, absolute=True))
    trained = body_of("resnet18", branches=branches, **options_of_body)
    state = load(checkpoint)["model_state"]
    trained.load_state_dict({n.removeprefix("body."): t for n, t in state.items() if n.startswith("body.")})
    images = torch.randn(2, 3, 32, 32)
    assert largest_difference(plain.eval()(images)["layer4"], trained.eval()(images)["layer4"]) < 1e-4
    half = tmp_path / "body.safetensors"
    assert body.main([*words[:3], str(half), "--images", str(pictures / "train")]) == 0
    assert half.stat().st_size < 0.6 * out.stat().st_size
    rounded = load_weights(half)
    assert rounded.keys() == weights.keys() and all(tensor.dtype == torch.float32 for tensor in rounded.values())
    assert all(torch.equal(rounded[name], tensor.half().float()) for name, tensor in weights.items())
    out = half if branches == 2 else out
    voc = workplace.options("--dataset", "imagefolder", "--task", "3-2", *TINY, "--pretrained", out, "--step", 0)
    voc = [word for word in voc if word not in ("--no_pretrained", "--overlap")]
    assert workplace.main([*voc, "--name", "other", "--method", "FT", "--no_visualize"]) == 0
    assert "100 of 100 tensors from" in capsys.readouterr().out
