"""The story of a run: learn the classes step by step, forget little, and keep score.

torchrun --nproc_per_node=4 run.py --data_root data/voc --task 15-1 --overlap --name RCIL --opt_level O1
python run.py --data_root data/voc --task 15-1 --overlap --name RCIL --step 0 --test
"""

import glob
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from argparser import Parsed, parse
from config import RunConfig, at_step, options_of
from dataset import Loaders, require_full_batch, scenario_of
from dataset.labels import PROTOCOL_NOTES
from experiment import Checkpoint, Experiment
from methods.base import Method
from metrics.report import Reporter
from metrics.results import results_path
from metrics.scores import Scores
from progress import Progress
from segmentation_module import SegmentationNet
from tasks import Task
from train import Precision, Updater, evaluate, predict_samples, train_one_epoch, training_batches
from utils.distributed import Dist, barrier, farewell, init_distributed, lost_contact, shut_down, who_is_gone
from utils.errors import RunError, UserError, one_line
from utils.interrupt import Interrupts, Stopped
from utils.log import log, setup_logging
from utils.optim import build_optimizer, build_schedule

GO_ON = "the same command goes on from the last checkpoint"


def run_steps(run: Experiment) -> None:
    """Every step in turn: train what is not trained yet, score what is not scored yet."""
    run.report.require_place()  # where it has none, that is to be said now and not after days of training
    for step in run.steps:
        if run.config.test:
            network, _ = run.load_finished(run.saved_path(step), step)
        else:
            network = train_step(run, step, is_first=step == run.steps[0])
        if network is not None:
            test_step(run, step, network)


def train_step(run: Experiment, step: int, *, is_first: bool) -> SegmentationNet | None:
    """The trained network of `step`; None if both network and score are there already."""
    run.seed(step, epoch=0)
    student, saved = run.load_saved(step)
    if saved and saved["trainer_state"]["finished"]:
        row = run.report.row(step)
        log.info(f"step {step} is finished: {run.path(step)}" + (f", mIoU {100 * row.mean_iou:.2f}" if row else ""))
        return None if row else student
    _require_two_values(run.config, run.dist)
    loaders = run.loaders(step)
    require_full_batch(loaders.train)
    method = run.method(step)
    precision = Precision(run.dist.device, mixed=run.config.opt_level == "O1")
    student, teacher = run.networks(step, student, method, dtype=precision.activations, is_first=is_first)
    if saved:
        run.require_predecessor(step, saved)
    train_student(run, step, student, teacher, method, loaders, precision, saved)
    return student


def _require_two_values(config: RunConfig, dist: Dist) -> None:
    """A norm in training needs two values per channel, and the image pooling leaves it one per image."""
    images = config.data.batch_size * (dist.world_size if config.model.norm_act == "iabn_sync" else 1)
    if images < 2 and not config.model.fix_bn:
        raise UserError(
            f"--batch_size {config.data.batch_size}: a norm in training needs two images or more; raise it, or keep "
            "all norms as they are with --fix_bn"
        )


def train_student(
    run: Experiment,
    step: int,
    student: SegmentationNet,
    teacher: SegmentationNet | None,
    method: Method,
    loaders: Loaders,
    precision: Precision,
    saved: Checkpoint | None,
) -> None:
    """All epochs of a step. From here on nothing in the student is replaced."""
    config, dist = run.config, run.dist
    epochs, lr = at_step(config.optim.epochs, step), at_step(config.optim.lr, step)
    optimizer = build_optimizer(student.parameter_groups(), config.optim, lr)
    schedule = build_schedule(optimizer, config.optim, iterations=epochs * len(loaders.train))
    updater = Updater(optimizer, schedule, precision, undo=student if config.skip_bad_batches else None)
    progress = Progress(run, step, student, updater, method, loaders.train)
    if saved:
        progress.restore(saved)
    elif teacher is not None and method.scans:
        scan(run, step, method, teacher, loaders.train)
    run.report.begin(step, iteration=updater.iteration, epoch=progress.epoch)
    log.info(
        f"step {step}: {len(loaders.train.dataset)} training images, epochs {progress.epoch + 1} to {epochs} of "
        f"{len(loaders.train)} iterations, learning rate {lr:g}"
        + (f"; goes on after iteration {progress.iteration}" if progress.iteration else "")
    )
    model = _wrapped(student, teacher, config, dist)

    def report(losses: dict[str, float], iteration: int) -> None:
        run.report.losses(step, iteration, losses, updater.lr)

    first_epoch = progress.epoch
    while progress.epoch < epochs:
        progress.begin_epoch()
        done = progress.epoch + 1
        finished = done == epochs
        validates = finished or done % config.val_interval == 0
        with run.interrupts.deferred():
            train_one_epoch(
                model,
                teacher,
                method,
                loaders.train,
                updater,
                progress.meter,
                device=dist.device,
                title=f"step {step} epoch {done}/{epochs}",
                print_interval=config.print_interval,
                report=report,
                judge=progress.judge,
                quiet=not dist.is_main,
                start=progress.iteration,
                after=progress.after_iteration,
                watch=run.watch(step) if done == first_epoch + 1 else iter,
            )
            progress.end_epoch(validates=validates)
        if validates:
            with progress.validating():
                scores = score(run, step, student.for_inference(), loaders.val, "validation")
                run.report.validation(step, done, scores)
            with run.interrupts.deferred():
                progress.validated(scores.mean_iou, finished=finished)
    barrier()


def scan(run: Experiment, step: int, method: Method, teacher: SegmentationNet, loader: DataLoader) -> None:
    """Let the method see the first epoch of `step` before it trains, as it will come again."""
    run.seed(step, epoch=0)
    loader.sampler.set_epoch(0)
    title, quiet = f"step {step} scan", not run.dist.is_main
    method.scan(teacher, training_batches(loader, device=run.dist.device, title=title, quiet=quiet))


def _wrapped(
    student: SegmentationNet, teacher: SegmentationNet | None, config: RunConfig, dist: Dist
) -> torch.nn.Module:
    """The student as it is called in training; both networks compiled, where `--compile` asks for it."""
    if config.compile:
        student.compile()
        if teacher is not None:
            teacher.compile()
    if dist.world_size == 1:
        return student
    with warnings.catch_warnings():
        # Newer releases of torch warn of the old name, and have no other yet that leaves statistics alone at the start.
        warnings.filterwarnings("ignore", ".*broadcast_buffers", FutureWarning)
        # Statistics are the same everywhere already, or those of the first process count: see Progress.end_epoch.
        return DistributedDataParallel(student, broadcast_buffers=False, gradient_as_bucket_view=True)


def test_step(run: Experiment, step: int, network: SegmentationNet) -> None:
    """Score the network of `step` on the test set of the step, and draw samples."""
    network = network.for_inference().to(run.dist.device)
    loader = run.loaders(step).test
    scores = score(run, step, network, loader, "test")
    if run.config.visualize and run.dist.is_main:
        run.report.samples(step, predict_samples(network, run.showcase, run.dist.device))
    run.report.test(step, scores, run.task.num_old(step))
    barrier()


def score(run: Experiment, step: int, network: SegmentationNet, loader: Any, what: str) -> Scores:
    """Scores of a network in the form for inference over the samples of all processes."""
    matrix = evaluate(
        network,
        loader,
        num_classes=run.task.num_seen(step),
        device=run.dist.device,
        title=f"step {step} {what}",
        quiet=not run.dist.is_main,
    )
    return matrix.scores()


def build_report(parsed: Parsed, dist: Dist) -> Reporter:
    """The reporter of a run, and its first words."""
    config, spec, task = parsed.config, parsed.spec, parsed.task
    order = task.order(task.num_steps - 1)
    log.info(
        f"{config.method_name} on {spec.name} {task.name}, {scenario_of(config.data, spec)}: "
        f"step {' '.join(map(str, parsed.steps))} of {task.num_steps}, {dist.world_size} process(es) on "
        f"{dist.device.type}"
    )
    for source, values in (("typed", parsed.provenance.typed), ("preset", parsed.provenance.preset)):
        log.info(f"  {source}: " + ", ".join(f"{name} {_shown(value)}" for name, value in values.items()))
    for note in parsed.provenance.notes:
        log.info(f"  note: {note}")
    return Reporter(
        folder=config.logdir / f"{task.name}-{task.dataset}" / config.name,
        results=_results_of(config, task),
        class_names=[spec.class_names[label] for label in order],
        palette=[spec.palette[label] for label in order],
        num_first=task.num_seen(0),
        is_main=dist.is_main,
        note=PROTOCOL_NOTES[config.data.label_protocol],
        about={
            "dataset": task.dataset,
            "task": task.name,
            "scenario": scenario_of(config.data, spec),
            "name": config.name,
            "method": config.method_name,
            "classes_per_step": task.classes_per_head(task.num_steps - 1),
            "processes": dist.world_size,
            "device": dist.device.type,
            "config": options_of(config),
        },
        wandb=config.wandb,
    )


def _results_of(config: RunConfig, task: Task) -> Path:
    """The results table: of `--date`, else the newest one of this name to go on with, else of today."""
    parts = (task.dataset, task.name, config.name)
    if config.date is None and (config.resume or config.test):
        started = sorted(config.results_dir.glob(results_path(Path(), "????-??-??", *map(glob.escape, parts)).name))
        if started:
            return started[-1]
    return results_path(config.results_dir, config.date or date.today().isoformat(), *parts)


def _shown(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def main(arguments: Sequence[str]) -> int:
    """Run what the command line says; the exit code: 0, or, with one line on standard error, 2 for bad input, 3 for a
    loss or gradient that is not finite, 1 for a process that died, and 128 + N if signal N stopped the run."""
    with Interrupts() as interrupts:
        try:
            parsed = parse(arguments)
            dist = init_distributed(parsed.local_rank)
            setup_logging(dist.is_main, parsed.config.debug)
            torch.backends.cudnn.benchmark = True
            report = build_report(parsed, dist)
            run = Experiment(parsed.config, parsed.spec, parsed.task, parsed.steps, dist, report, interrupts)
            with run.alone(), report.board:
                run_steps(run)
                report.close(pictures=parsed.config.visualize, latex=parsed.config.latex)
            shut_down()
        except RunError as error:
            return _give_up(f"error: {one_line(error)}", error.exit_code)
        except OSError as error:
            reason = error.strerror or one_line(error)
            return _give_up(f"error: {reason}: {error.filename or 'while writing'}", 2)
        except Stopped as stop:
            where = stop.where + "; the same command goes on there" if stop.where else GO_ON
            return _give_up(f"stopped by {signal.Signals(stop.signum).name}: {where}", stop.exit_code)
        except RuntimeError as error:
            if lost_contact(error):
                return _give_up(f"error: {who_is_gone()}; {GO_ON}", 1)
            if "DataLoader worker" in str(error):
                mend = "too little memory is the usual reason: lower --num_workers or --batch_size"
                return _give_up(f"error: a loader process died: {one_line(error)}; {mend}; {GO_ON}", 1)
            farewell(f"{type(error).__name__}: {one_line(error)}")
            raise
    return 0


def _give_up(message: str, code: int) -> int:
    """Say why on standard error, and to the other processes; the exit code."""
    print(message, file=sys.stderr, flush=True)
    if torch.distributed.is_initialized():
        farewell(message)
        # The other processes may wait for this one: leave without waiting for them.
        os._exit(code)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
