"""All that a run tells its user: console, results table, TensorBoard, pictures. Only the main process speaks."""

from collections.abc import Mapping, Sequence
from functools import partial
from os.path import relpath
from pathlib import Path
from typing import Any

from metrics.board import Board
from metrics.figures import curve
from metrics.history import DrawnSample, draw_strip, read_history, save_samples
from metrics.journal import Event, Journal, read_journal
from metrics.mirror import Mirror, require_wandb
from metrics.pictures import draw_samples, save_picture
from metrics.results import Row, read_rows, rows_to_go_on_with, write_row
from metrics.scores import Scores
from metrics.tables import images_table, run_table, step_table
from utils.log import log


class Reporter:
    """Takes what happens in a run to the places where a person looks.

    `class_names` and `palette` are in the order of arrival, as the network's outputs; `num_first` of them are of
    step 0. `folder`: TensorBoard files and pictures. `note`: what to know of the results, in the head of their file.
    `about`: what ran, for the journal. `wandb`: shows all in Weights & Biases, too.
    """

    def __init__(
        self,
        *,
        folder: Path,
        results: Path,
        class_names: Sequence[str],
        palette: Sequence[tuple[int, int, int]],
        num_first: int,
        is_main: bool,
        note: str = "",
        about: Mapping[str, Any],
        wandb: bool = False,
    ) -> None:
        self.folder = folder
        self.results = results
        self.class_names = class_names
        self.palette = palette
        self.num_first = num_first
        self.is_main = is_main
        self.note = note
        if wandb:
            require_wandb()  # where it lacks, that is to be said now
        mirror = partial(Mirror, folder, name=about["name"], group=folder.parent.name, config=about["config"])
        self.board = Board(folder, is_main, mirror if wandb else None)
        self.samples_folder = folder / "pictures" / "samples"
        looks = {"class_names": list(class_names), "palette": [list(colour) for colour in palette]}
        places = {"samples": relpath(self.samples_folder, results.parent)}
        self.journal = Journal(results.with_suffix(".jsonl"), {**about, **looks, **places}, is_main)

    def images(self, arriving: Sequence[Sequence[str]], counts: Sequence[Sequence[int]], scenario: str) -> None:
        """How many images train, validate and test each step of the task, and the names of what arrives in it."""
        table = images_table(arriving, counts, title=f"images per step, {scenario}")
        log.info(f"\n{table}\n")
        self.board.text("images_per_step", table)

    def begin(self, step: int, *, iteration: int, epoch: int) -> None:
        """The training of `step` goes on after so many iterations and validated epochs: what was told of later ones
        will be told again."""

        def comes_again(event: Event) -> bool:
            if event.get("step") != step:
                return False
            later = event["event"] == "losses" and event["iteration"] > iteration
            return later or (event["event"] == "validation" and event["epoch"] > epoch)

        self.journal.drop(comes_again)

    def losses(self, step: int, iteration: int, losses: dict[str, float], lr: float) -> None:
        """Mean losses by name up to `iteration` of `step`, and the learning rate."""
        self.board.scalars(losses, iteration, group=f"loss_step{step}")
        self.board.scalars({f"step{step}": lr}, iteration, group="learning_rate")
        self.journal.write("losses", step=step, iteration=iteration, lr=lr, **losses)

    def validation(self, step: int, epoch: int, scores: Scores) -> None:
        """Scores on the step's validation set after `epoch` epochs."""
        self.board.scalars({"mIoU": scores.mean_iou}, epoch, group=f"validation_step{step}")
        self.journal.write("validation", step=step, epoch=epoch, **_means(scores))
        log.info(f"step {step}, epoch {epoch}: validation mIoU {100 * scores.mean_iou:.2f}")

    def require_place(self) -> None:
        """UserError where results table or journal are not ones to go on with."""
        rows_to_go_on_with(self.results, len(self.class_names))
        if self.journal.path.exists():
            read_journal(self.journal.path)

    def row(self, step: int) -> Row | None:
        """The row of `step` in the results table, None if it is not there yet. UserError if it is another task's."""
        rows = rows_to_go_on_with(self.results, len(self.class_names))
        return next((row for row in rows if row.step == step), None)

    def test(self, step: int, scores: Scores, num_old: int) -> None:
        """Scores on the test set after `step`: to the console, TensorBoard and the results table."""
        if not self.is_main:
            return
        names = self.class_names[: scores.num_classes]
        log.info("\n" + step_table(scores, names, num_old, title=f"step {step}: test IoU in percent") + "\n")
        self.board.scores(scores, names, step)
        groups = {"old": scores.mean_over(range(num_old)), "new": scores.mean_over(range(num_old, len(names)))}
        self.journal.drop(lambda event: event["event"] == "test" and event.get("step") == step)
        iou = dict(zip(names, map(float, scores.iou), strict=True))
        self.journal.write("test", step=step, **_means(scores), **groups, iou=iou)
        self.flush()
        # Last: a step with a row is done, and is not scored again.
        write_row(self.results, Row.from_scores(step, scores, len(self.class_names)), self.note)

    def samples(self, step: int, samples: Sequence[DrawnSample]) -> None:
        """Draw the test images that are the same after every step: this step's predictions, and those of all so far."""
        if not self.is_main or not samples:
            return
        save_samples(self.samples_folder, step, samples, self.palette)
        titles = ("image", "ground truth", "prediction")
        drawn = {
            f"samples_step{step}": draw_samples(samples, titles, self.palette, self.class_names),
            "strip": draw_strip({"": read_history(self.samples_folder)}, self.palette, self.class_names),
        }
        for name, picture in drawn.items():
            save_picture(picture, self.folder / "pictures" / f"{name}.png")
            self.board.picture(name.split("_")[0], picture, step)

    def flush(self) -> None:
        """Have all figures so far written to the disk: they are not told again when the run goes on after them."""
        self.board.flush()

    def close(self, *, pictures: bool, latex: bool) -> None:
        """End of the run: the table of all steps, its picture, and where everything lies."""
        self.board.close()
        if not self.is_main or not self.results.exists():
            return
        rows = read_rows(self.results)
        table = run_table(rows, self.num_first)
        log.info(f"{table}\n")
        if latex:
            log.info(f"{table.latex()}\n")
        log.info(f"results      {self.results}, journal {self.journal.path.name}")
        log.info(f"TensorBoard  tensorboard --logdir {self.folder}")
        if pictures:
            path = self.folder / "pictures" / "miou.png"
            curve(path, {self.folder.name: [rows]}, self.num_first)
            log.info(f"pictures     {path.parent}")


def _means(scores: Scores) -> dict[str, float]:
    return {
        "miou": scores.mean_iou,
        "overall_accuracy": scores.overall_accuracy,
        "mean_accuracy": scores.mean_accuracy,
        "frequency_weighted_iou": scores.frequency_weighted_accuracy,
    }
