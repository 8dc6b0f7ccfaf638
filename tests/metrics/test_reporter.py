"""Where the figures of a run go: journal, TensorBoard and, asked for, Weights & Biases."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from metrics.pace import GIB, Position, peak_memory
from metrics.pictures import DrawnSample
from metrics.report import Reporter
from metrics.results import Row, read_journal, write_row
from metrics.scores import Scores

SCORES = Scores.from_matrix(np.array([[5, 1, 0], [0, 0, 0], [2, 0, 7]]))
PLACE = Position(updates=10, total=40, epoch=1, epochs=4, images=8, iterations=10, seconds=2.0)
SAMPLE = DrawnSample(np.zeros((3, 6, 4), np.uint8), np.ones((6, 4), np.uint8), np.zeros((6, 4), np.uint8))


def told(folder: Path, **options: Any) -> Reporter:
    """A reporter that has been told of everything in a run."""
    looks = {"class_names": ["background", "cat", "dog"], "palette": [(0, 0, 0), (1, 2, 3), (4, 5, 6)], "num_first": 2}
    places = {"folder": folder / "b" / "a", "results": folder / "a.csv", "about": {"name": "a", "config": {}}}
    report = Reporter(**looks, **places, **options)
    if report.is_main:
        write_row(report.results, Row(0, (0.9, math.nan), 3, 0.9))
    report.images([["cat"], ["dog"]], [(3, 1, 1), (2, 1, 2)], "disjoint")
    with report:
        report.begin(1, iteration=0, epoch=0)
        report.losses(1, PLACE, {"ce": 0.25, "total": 0.25}, lr=0.5)
        report.validation(1, 3, SCORES)
        report.samples(1, [SAMPLE])
        report.test(1, SCORES, num_old=2)
        report.close(latex=True)
    return report


def test_everything_arrives(tmp_path: Path):
    report = told(tmp_path, is_main=True)
    events = EventAccumulator(str(report.folder)).Reload()
    shown = {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    means = {"mIoU": SCORES.mean_iou, "overall accuracy": 0.8, "mean accuracy": SCORES.mean_accuracy}
    means["fw_iou"] = SCORES.fw_iou
    groups = {"old": SCORES.iou[0], "new": SCORES.iou[2], "forgetting": 0.9 - SCORES.iou[0]}
    present = {"background": SCORES.iou[0], "dog": SCORES.iou[2]}
    assert shown == {
        "loss_step1/ce": [(10, 0.25)],
        "loss_step1/total": [(10, 0.25)],
        "learning_rate/step1": [(10, 0.5)],
        "speed_step1/images_per_second": [(10, 40.0)],
        "speed_step1/memory_in_GiB": [(10, pytest.approx(peak_memory() / GIB, rel=0.1))],
        "validation_step1/mIoU": [(3, pytest.approx(SCORES.mean_iou))],
        **{f"test/{name}": [(1, pytest.approx(mean))] for name, mean in (means | groups).items()},
        **{f"test_classes/{name}": [(1, pytest.approx(iou))] for name, iou in present.items()},
    }
    assert set(events.Tags()["images"]) == {"test/confusion", "samples", "strip"}
    texts = {}
    for name in ("images_per_step", "test/classes"):
        [text] = events.Tensors(f"{name}/text_summary")
        texts[name] = text.tensor_proto.string_val[0].decode()
    assert "    0     1: cat      3    1     1" in texts["images_per_step"]
    assert f"| dog | {100 * SCORES.iou[2]:.2f} | 77.78 | 9 |" in texts["test/classes"]
    assert "| cat | - | - | 0 |" in texts["test/classes"]
    losses, validation, test = read_journal(report.journal.path)[1:]
    assert losses["ce"] == 0.25 and validation["fw_iou"] == test["fw_iou"] == SCORES.fw_iou
    assert (report.folder / "pictures" / "miou.png").is_file() and report.row(1).overall == SCORES.mean_iou


def test_only_the_main_process_writes(tmp_path: Path):
    assert told(tmp_path, is_main=False).row(1) is None
    assert list(tmp_path.iterdir()) == []
