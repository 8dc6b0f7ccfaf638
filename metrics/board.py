"""TensorBoard: what a run wants to show, in the one process that shows it; mirrored, where that is asked for."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from metrics.figures import confusion_figure
from metrics.mirror import Mirror
from metrics.scores import Scores
from metrics.tables import percent


class Board:
    """TensorBoard files in `logdir`, from the first thing to be shown on; nothing unless this `is_main`."""

    def __init__(self, logdir: Path, is_main: bool = True, mirror: Callable[[], Mirror] | None = None) -> None:
        self.logdir = logdir
        self.is_main = is_main
        self._opened: SummaryWriter | None = None
        self._make_mirror = mirror
        self._mirror: Mirror | None = None
        self._texts: dict[str, str] = {}

    @property
    def _writer(self) -> SummaryWriter | None:
        # Not before it is needed: a run that is refused leaves no file.
        if self._opened is None and self.is_main:
            self._mirror = self._make_mirror() if self._make_mirror else None
            self._opened = SummaryWriter(str(self.logdir))
            for name, text in self._texts.items():
                self._opened.add_text(name, text)
        return self._opened

    def scalars(self, values: Mapping[str, float | Tensor], iteration: int, group: str = "train") -> None:
        """Losses by name, learning rate and the like, as GROUP/NAME. Waits for tensors on a device."""
        if self._writer:
            figures = {name: float(value) for name, value in values.items()}
            for name, value in figures.items():
                self._writer.add_scalar(f"{group}/{name}", value, iteration)
            if self._mirror:
                self._mirror.scalars(figures, iteration, group)

    def scores(self, scores: Scores, class_names: Sequence[str], step: int, group: str = "test") -> None:
        """Means, the table per class and the confusion matrix, as GROUP/...; `step`: place on the axis."""
        if not self._writer:
            return
        means = {
            "mIoU": scores.mean_iou,
            "overall accuracy": scores.overall_accuracy,
            "mean accuracy": scores.mean_accuracy,
            "frequency-weighted IoU": scores.frequency_weighted_accuracy,
        }
        self.scalars(means, step, group)
        self._writer.add_text(f"{group}/classes", _markdown(scores, class_names), step)
        self.picture(f"{group}/confusion", _render(confusion_figure(scores.matrix, class_names)), step)

    def text(self, name: str, text: str) -> None:
        """A text of a fixed width, say a table; it appears with the first figure or picture."""
        self._texts[name] = "\n".join(f"    {line}" for line in text.splitlines())
        if self._opened:
            self._opened.add_text(name, self._texts[name])

    def picture(self, name: str, image: Image.Image, step: int) -> None:
        """A picture, say of sample predictions."""
        if self._writer:
            self._writer.add_image(name, np.array(image.convert("RGB")), step, dataformats="HWC")
            if self._mirror:
                self._mirror.picture(name, image, step)

    def flush(self) -> None:
        """Have what was shown so far written to the files."""
        if self._opened:
            self._opened.flush()

    def close(self) -> None:
        """Write what is left and let go of the files."""
        if self._opened:
            self._opened.close()
            self._opened = None
        if self._mirror:
            self._mirror.close()
            self._mirror = None

    def __enter__(self) -> "Board":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _markdown(scores: Scores, class_names: Sequence[str]) -> str:
    lines = ["| class | IoU | accuracy | pixels |", "|:--|--:|--:|--:|"]
    pixels = scores.matrix.sum(axis=1)
    for position in range(scores.num_classes):
        figures = (percent(scores.iou[position]), percent(scores.accuracy[position]), f"{pixels[position]:,}")
        lines.append(f"| {class_names[position]} | {' | '.join(figures)} |")
    return "\n".join(lines)


def _render(figure: Figure) -> Image.Image:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba()))
