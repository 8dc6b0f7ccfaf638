"""All that a run tells its user: console, results table, TensorBoard, pictures. Only the main process speaks."""

import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, wraps
from os.path import relpath
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from config import RunConfig, options_of, shown
from config_file import write_config
from metrics.pace import GIB, Pace, Position, peak_memory
from metrics.pictures import DrawnSample, draw_samples, draw_strip, read_history, save_picture, save_samples
from metrics.results import (
    Journal,
    Row,
    forgetting,
    plain,
    read_journal,
    read_rows,
    results_of,
    rows_to_extend,
    write_row,
)
from metrics.scores import Scores, present_mean
from metrics.tables import classes_grid, images_table, run_table, step_table
from tasks import Task
from utils.distributed import Dist, told_by_main
from utils.errors import UserError
from utils.files import to_disk
from utils.log import log

MIB_NOTE = (
    "labels of MiB: ignored pixels trained as background, classes not seen yet are left out of the scores; "
    "figures before the last step are not comparable with those under the labels of PLOP"
)

TITLES = {"miou": "mIoU", "top_1": "top-1", "overall_accuracy": "overall accuracy", "mean_accuracy": "mean accuracy"}


def of_main_process(report: Callable[..., None]) -> Callable[..., None]:
    """A method of Reporter that does nothing in the other processes."""

    @wraps(report)
    def only_there(self: "Reporter", *values: Any, **named: Any) -> None:
        if self.is_main:
            report(self, *values, **named)

    return only_there


@dataclass(kw_only=True)
class Reporter:
    """Takes what happens in a run to the places where a person looks. Around the run, as a context manager.

    UserError where results table or journal are of another run, and where wandb is missing.
    """

    folder: Path  # of TensorBoard files and pictures
    results: Path  # the table; beside it lies the journal
    class_names: Sequence[str]  # in the order of arrival, as the network's outputs
    palette: Sequence[tuple[int, int, int]]  # their colours
    num_first: int  # classes of step 0
    is_main: bool
    about: Mapping[str, Any]  # what ran, for the journal
    plan: Mapping[int, int] = field(default_factory=dict)  # how many iterations each step of the run has
    note: str = ""  # what to know of the results, in the head of their file
    pictures: bool = True  # draw what can be drawn
    wandb: bool = False  # show all in Weights & Biases, too

    def __post_init__(self) -> None:
        self.images_per_step = ""
        self.pace = Pace(self.plan)
        self.samples_folder = self.folder / "pictures" / "samples"
        looks = {"class_names": list(self.class_names), "palette": [list(colour) for colour in self.palette]}
        places = {"samples": relpath(self.samples_folder, self.results.parent)}
        self.journal = Journal(
            self.results.with_suffix(".jsonl"), {**self.about, **looks, **places}, self._write_options
        )
        # What does not serve is to be told now, and not after days of training.
        try:
            self.mirror = importlib.import_module("wandb") if self.wandb else None
        except ImportError:
            raise UserError("--wandb: the package wandb is not installed: pip install wandb, or leave it out") from None
        rows_to_extend(self.results, len(self.class_names))
        if self.journal.path.exists():
            read_journal(self.journal.path)

    def _write_options(self) -> None:
        """Beside the journal, for --config; a test is not what a run is."""
        if not self.about["config"].get("test"):
            write_config(self.results.with_suffix(".yaml"), plain(self.about["config"]))

    def __enter__(self) -> "Reporter":
        """Start a run of Weights & Biases, where that is asked for. UserError where it does not start."""
        if not (self.mirror and self.is_main):
            return self
        self.folder.mkdir(parents=True, exist_ok=True)
        names = {"project": "rcil", "name": self.about["name"], "group": self.folder.parent.name}
        told = {"dir": str(self.folder), "config": plain(self.about["config"])}
        try:
            # sync_tensorboard: it copies what TensorBoard gets from every SummaryWriter that is made after it.
            run = self.mirror.init(**names, **told, settings={"silent": True}, sync_tensorboard=True)
        except (self.mirror.Error, ValueError) as error:
            reason, cure = " ".join(str(error).split()), "wandb login, WANDB_MODE=offline, or leave it out"
            raise UserError(f"--wandb: it does not start: {reason}; {cure}") from None
        log.info(f"wandb        {run.dir if run.offline else run.url}")
        return self

    @of_main_process
    def __exit__(self, *_: object) -> None:
        if "writer" in vars(self):
            self.writer.close()
        if self.mirror:
            self.mirror.finish()

    @cached_property
    def writer(self) -> SummaryWriter:
        """TensorBoard. Not before it is needed: a run that is refused leaves no file."""
        writer = SummaryWriter(str(self.folder))
        writer.add_text("images_per_step", "\n".join(f"    {line}" for line in self.images_per_step.splitlines()))
        return writer

    def images(self, arriving: Sequence[Sequence[str]], counts: Sequence[Sequence[int]], scenario: str) -> None:
        """How many images train, validate and test each step of the task, and the names of what arrives in it."""
        self.images_per_step = images_table(arriving, counts, title=f"images per step, {scenario}")
        log.info(f"\n{self.images_per_step}\n")

    @of_main_process
    def begin(self, step: int, *, iteration: int, epoch: int) -> None:
        """The training of `step` begins, or resumes after so many iterations and validated epochs: what was told of
        later ones will be told again."""
        done = {"iteration": iteration, "epoch": epoch}
        self.journal.drop(lambda e: e.get("step") == step and any(e.get(name, 0) > done[name] for name in done))

    @of_main_process
    def losses(self, step: int, place: Position, losses: dict[str, float], lr: float) -> None:
        """Mean losses by name over the last iterations of `step`, the learning rate, and once a minute a line."""
        scalars = {f"loss_step{step}/{name}": value for name, value in losses.items()}
        scalars[f"learning_rate/step{step}"] = lr
        scalars[f"speed_step{step}/images_per_second"] = place.images_per_second
        scalars[f"speed_step{step}/memory_in_GiB"] = peak_memory() / GIB
        for tag, value in scalars.items():
            self.writer.add_scalar(tag, value, place.updates)
        self.journal.write("losses", step=step, iteration=place.updates, lr=lr, **losses)
        if line := self.pace.line(step, place, losses["total"]):
            log.info(line)

    @of_main_process
    def validation(self, step: int, epoch: int, scores: Scores) -> None:
        """Scores on the step's validation set after `epoch` epochs."""
        name = scores.measure.overall
        self.writer.add_scalar(f"validation_step{step}/{name}", scores.overall, epoch)
        self.journal.write("validation", step=step, epoch=epoch, **scores.means)
        log.info(f"step {step}, epoch {epoch}: validation {name} {100 * scores.overall:.2f}")

    def row(self, step: int) -> Row | None:
        """The row of `step` in the results table, None if it is not there yet. UserError if it is another task's."""
        rows = rows_to_extend(self.results, len(self.class_names)) if self.is_main else []
        return told_by_main(next((row for row in rows if row.step == step), None))

    @of_main_process
    def test(self, step: int, scores: Scores, num_old: int) -> None:
        """Scores on the test set after `step`: to the console, TensorBoard and the results table."""
        names, means, measure = self.class_names[: len(scores.matrix)], scores.means, scores.measure
        title = f"step {step}: test {measure.per_class} in percent"
        log.info("\n" + step_table(scores, names, num_old, title) + "\n")
        row = Row(step, tuple(scores.per_class), len(self.class_names), scores.overall, measure)
        before = [other for other in rows_to_extend(self.results, len(self.class_names)) if other.step < step]
        groups = {"old": present_mean(scores.per_class[:num_old]), "new": present_mean(scores.per_class[num_old:])}
        falls = {"forgetting": present_mean(forgetting([*before, row]))}
        scalars = {f"test/{TITLES.get(name, name)}": value for name, value in (means | groups | falls).items()}
        scalars |= {f"test_classes/{name}": value for name, value in zip(names, scores.per_class, strict=True)}
        for tag, value in scalars.items():
            if not math.isnan(value):
                self.writer.add_scalar(tag, value, step)
        self.writer.add_text("test/classes", classes_grid(scores, names).markdown(), step)
        if self.pictures:
            from metrics.figures import confusion_figure  # only who draws waits a second for matplotlib

            self.writer.add_figure("test/confusion", confusion_figure(scores.matrix, names), step)
        self.journal.drop(lambda event: event["event"] == "test" and event.get("step") == step)
        per_class = {measure.per_class.lower(): dict(zip(names, map(float, scores.per_class), strict=True))}
        self.journal.write("test", step=step, **means, **groups, **per_class)
        self.flush()
        # Last: a step with a row is done, and is not scored again.
        write_row(self.results, row, self.note)

    @of_main_process
    def samples(self, step: int, samples: Sequence[DrawnSample]) -> None:
        """Draw the test images that are the same after every step: this step's predictions, and those of all so far."""
        if not samples:
            return
        save_samples(self.samples_folder, step, samples, self.palette)
        titles = ("image", "ground truth", "prediction")
        drawn = {
            f"samples_step{step}": draw_samples(samples, titles, self.palette, self.class_names),
            "strip": draw_strip({"": read_history(self.samples_folder)}, self.palette, self.class_names),
        }
        for name, picture in drawn.items():
            save_picture(picture, self.folder / "pictures" / f"{name}.png")
            self.writer.add_image(name.split("_")[0], np.array(picture), step, dataformats="HWC")

    @of_main_process
    def flush(self) -> None:
        """Have all figures so far written to the disk: they are not told again when the run resumes after them."""
        self.writer.flush()
        for path in (self.journal.path, self.journal.path.parent, *self.folder.glob("events.*"), self.folder):
            if path.exists():
                to_disk(path)

    @of_main_process
    def close(self, *, latex: bool) -> None:
        """End of the run: the table of all steps, its picture, the options beside the scores, and where all lies."""
        if not self.results.exists():
            return
        rows = read_rows(self.results)
        table = run_table(rows, self.num_first)
        log.info(f"{table}\n")
        if latex:
            log.info(f"{table.latex()}\n")
        self._compare_options(rows[0].measure.overall)
        log.info(f"results      {self.results}, journal {self.journal.path.name}")
        log.info(f"report       python tools/report.py {self.results}")
        if folder := self.about["config"].get("checkpoint"):
            log.info(f"checkpoints  {folder}")
        log.info(f"TensorBoard  tensorboard --logdir {self.folder}")
        if self.pictures:
            from metrics.figures import curve

            path = self.folder / "pictures" / f"{rows[0].measure.overall.lower()}.png"
            curve(path, {self.folder.name: [rows]}, self.num_first)
            log.info(f"pictures     {path.parent}")

    def _compare_options(self, overall: str) -> None:
        """A line of TensorBoard's tab HPARAMS: the options of the run and its scores, the `overall` one first."""
        if "writer" not in vars(self):
            return  # nothing ran
        options = {
            name: value if type(value) in (int, float, str) else shown(value)
            for name, value in self.about["config"].items()
        }
        scores = dict.fromkeys(f"test/{name}" for name in (overall, "old", "new", "forgetting"))
        for summary in hparams(options, scores):
            self.writer.file_writer.add_summary(summary)


class Data(Protocol):
    """What a report says of the data of a run."""

    class_names: Sequence[str]  # in order of arrival, as the palette
    palette: Sequence
    scenario: str
    are_published: bool  # the pictures that published figures are about


def build_report(config: RunConfig, task: Task, data: Data, dist: Dist, plan: Mapping[int, int]) -> Reporter:
    """The reporter of a run, whose steps have as many iterations as `plan` says. UserError where results table or
    journal are of another one."""
    return Reporter(
        folder=config.logdir / f"{task.name}-{task.dataset}" / config.name,
        results=results_of(config, task.dataset, task.name),
        class_names=data.class_names,
        palette=data.palette,
        num_first=task.step(0).num_seen,
        is_main=dist.is_main,
        note=MIB_NOTE if config.data.label_protocol == "mib" else "",
        about={
            "dataset": task.dataset,
            "task": task.name,
            "scenario": data.scenario,
            "published_pictures": data.are_published,
            "name": config.name,
            "method": config.method_name,
            "classes_per_step": task.steps[-1].classes_per_head,
            "processes": dist.world_size,
            "device": dist.device.type,
            "config": options_of(config),
        },
        plan=plan,
        pictures=config.visualize,
        wandb=config.wandb,
    )
