"""What TensorBoard finds in its folder."""

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from metrics.board import Board
from metrics.scores import Scores

MATRIX = np.array([[5, 1, 0], [0, 0, 0], [2, 0, 7]])


def test_everything_arrives(tmp_path):
    made = Scores.from_matrix(MATRIX)
    with Board(tmp_path) as board:
        board.scalars({"loss": torch.tensor(0.25), "lr": 0.5}, iteration=10)
        board.scores(made, ["background", "cat", "dog"], step=2, group="test")
        board.picture("samples", Image.new("RGB", (6, 4), (1, 2, 3)), step=2)
        board.text("table", "a  b\n1  2")
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [(event.step, event.value) for event in events.Scalars("train/loss")] == [(10, 0.25)]
    assert events.Scalars("train/lr")[0].value == 0.5
    assert events.Scalars("test/mIoU")[0].value == pytest.approx(made.mean_iou)
    assert events.Scalars("test/overall accuracy")[0].value == pytest.approx(0.8)
    assert set(events.Tags()["images"]) == {"test/confusion", "samples"}
    assert (events.Images("samples")[0].width, events.Images("samples")[0].height) == (6, 4)
    (text,) = events.Tensors("table/text_summary")
    assert text.tensor_proto.string_val[0].decode() == "    a  b\n    1  2"
    (text,) = events.Tensors("test/classes/text_summary")
    table = text.tensor_proto.string_val[0].decode()
    assert f"| dog | {100 * made.iou[2]:.2f} | 77.78 | 9 |" in table and "| cat | - | - | 0 |" in table


def test_one_process_writes_and_none_before_there_is_something_to_show(tmp_path):
    with Board(tmp_path / "other", is_main=False) as board:
        board.scalars({"loss": 1.0}, iteration=0)
        board.scores(Scores.from_matrix(MATRIX), ["a", "b", "c"], step=0)
        board.picture("samples", Image.new("RGB", (6, 4)), step=0)
        board.text("table", "a b")
    with Board(tmp_path / "nothing"):
        pass
    assert list(tmp_path.iterdir()) == []
