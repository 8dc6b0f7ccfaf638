"""The story of a run: learn the classes step by step, forget little, and keep score.

torchrun --nproc_per_node=4 run.py --data_root data/voc --task 15-1 --overlap --name RCIL --opt_level O1
python run.py --data_root data/voc --task 15-1 --overlap --name RCIL --step 0 --test
"""

import math
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch.distributed.elastic.multiprocessing.errors import record

from argparser import Parsed, parse
from checkpoints import CheckpointStore, Saved, about
from config import RunConfig
from dataset import TaskData
from methods import METHODS
from metrics.report import Reporter, build_report
from metrics.scores import Scores, measure_of
from segmentation_module import SegmentationNet, build_first_student, build_student, freeze_parts_
from tasks import Step
from train import Trainer, evaluate, fill_memory, plan, predict_samples
from utils.distributed import Dist, barrier, init_distributed, shut_down
from utils.log import log, setup_logging
from utils.profiling import profiled
from utils.random_state import derive_seed, seed_everything
from utils.stopping import Interrupts, Stopped, Watch, ending_of


@dataclass(frozen=True)
class Run:
    """What the steps of a run share."""

    config: RunConfig
    data: TaskData
    store: CheckpointStore
    report: Reporter
    interrupts: Interrupts
    dist: Dist


def run_steps(run: Run, steps: Sequence[Step]) -> None:
    """Every step in turn: train what is not trained yet, score what is not scored yet."""
    for step in steps:
        network = run.store.finished(step).network if run.config.test else learn(run, step)
        if network is not None:
            test(run, step, network)
        del network  # it would lie in memory beside those of the next step


def learn(run: Run, step: Step) -> SegmentationNet | None:
    """The trained network of `step`; None if both network and score are there already."""
    seed_everything(derive_seed(run.config.random_seed, step.number, 0, run.dist.rank))
    saved = run.store.resumable(step)
    if saved and saved.finished:
        row = run.report.row(step.number)
        log.info(f"step {step} is finished: {saved.path}" + (f", {row}" if row else ""))
        return None if row else saved.network
    return train(run, step, build_trainer(run, step, saved))


def build_trainer(run: Run, step: Step, saved: Saved | None) -> Trainer:
    """Student, teacher and method of `step`, from the step before, or from what was saved of this one (SPEC 4, 6)."""
    config, model = run.config, run.config.model
    method = METHODS[config.method_name](config.method, step)
    before = run.store.previous(step)
    previous, kept = (before.network, before.memory) if before else (None, ())
    memory = saved.memory if saved else fill_memory(method, previous, kept, run.data, run.dist)
    batches = run.data.train(step, memory=memory, **method.data_options)
    if previous:
        student = build_student(previous, new_classes=step.num_seen - step.num_old)
    else:
        source = replace(model, no_pretrained=True) if saved else model
        student = build_first_student(source, branches=config.method.branches, classes_per_head=step.classes_per_head)
    freeze_parts_(student, body=model.freeze, norms=model.fix_bn)
    method.shape(student, previous)
    if before:
        method.inherit(before.checkpoint["method_state"])
    if not saved:
        method.initialise(student, previous)
    teacher = previous.for_inference_() if previous and method.needs_teacher else None
    trainer = Trainer(student, teacher, method, batches, config, run.dist)
    if saved:
        run.store.require_predecessor(step, saved)
        with about(saved.path):
            trainer.load_state_dict(saved.checkpoint)
    else:
        trainer.begin()
    return trainer


def train(run: Run, step: Step, trainer: Trainer) -> SegmentationNet:
    """The network after all epochs of a step; saved whenever that is due, and at the end."""
    watch = Watch(run.interrupts, run.dist)
    run.report.begin(step.number, iteration=trainer.updates, epoch=trainer.epochs_done)
    log.info(trainer.announcement)
    if not trainer.phases:  # nothing is saved before the end of `finish`, and so it may be stopped at once
        trainer.finish(lambda: run.store.network_before(step))
        validate(run, step, trainer, epoch=1)
    while not trainer.is_done:
        epoch, is_last = trainer.epochs_done + 1, trainer.is_in_last_epoch
        validates = is_last or epoch % run.config.val_interval == 0
        with run.interrupts.deferred():
            for losses in iterations(run, step, trainer):
                if losses:
                    run.report.losses(step.number, trainer.position, losses, trainer.updater.lr)
                watch.look(60 * run.config.save_minutes)
                save_or_stop(run, step, trainer, watch)
            if is_last:
                trainer.finish(lambda: run.store.network_before(step))
            if not validates:
                trainer.end_epoch()
            watch.look(seconds_to_save(run.config, watch, epoch), wait=True)
            save_or_stop(run, step, trainer, watch)
        if validates:
            validate(run, step, trainer, epoch=epoch)
            trainer.end_epoch()
    with run.interrupts.deferred():
        save(run, step, trainer, finished=True)
    run.interrupts.obey()
    return trainer.student


def validate(run: Run, step: Step, trainer: Trainer, *, epoch: int) -> None:
    """Score the student on the validation set of the step; saved where that is stopped."""
    with run.interrupts.saved(lambda: save(run, step, trainer, wait=False)):
        scores = score(run, step, trainer.student.for_inference(), run.data.val(step), "validation")
        run.report.validation(step.number, epoch, scores)
    trainer.best_score = max(trainer.best_score, scores.overall)


def iterations(run: Run, step: Step, trainer: Trainer) -> Iterator[dict[str, float]]:
    """Those that are left of the present epoch; `--profile` traces some where the run begins."""
    path, traced = run.report.folder / "profile" / f"step{step}.json", run.config.profile
    traces = traced and run.dist.is_main and trainer.has_just_begun
    return profiled(trainer.train_epoch(), iterations=traced, path=path) if traces else trainer.train_epoch()


def seconds_to_save(config: RunConfig, watch: Watch, epoch: int) -> float:
    """How long after the last checkpoint one is due at the end of `epoch`: see `--ckpt_interval`."""
    if config.ckpt_interval == 0:
        return watch.seconds_between
    return 0 if epoch % config.ckpt_interval == 0 else math.inf


def save_or_stop(run: Run, step: Step, trainer: Trainer, watch: Watch) -> None:
    """Save where `watch` says so. Raises Stopped, in all processes at the same place, where it says to stop."""
    if watch.save_is_due or watch.stop_signal:
        trainer.judge()
        with watch.saving():
            where = save(run, step, trainer)
        if watch.stop_signal:
            raise Stopped(watch.stop_signal, where)


def save(run: Run, step: Step, trainer: Trainer, *, finished: bool = False, wait: bool = True) -> str:
    """Write the checkpoint of the step; says where it stands."""
    run.report.flush()  # first: what a checkpoint has seen is not told again
    run.store.write(step, trainer.state_dict(), finished=finished, wait=wait)
    return f"step {step} is saved at {trainer.place}"


def test(run: Run, step: Step, network: SegmentationNet) -> None:
    """Score the network of `step` on the test set of the step, and draw samples."""
    network = network.for_inference().to(run.dist.device)
    scores = score(run, step, network, run.data.test(step), "test")
    if run.report.pictures and run.dist.is_main:
        samples = predict_samples(network, run.data.showcase(run.config.sample_num), run.dist.device)
        run.report.samples(step.number, samples)
    run.report.test(step.number, scores, step.num_old)
    barrier()


def score(run: Run, step: Step, network: SegmentationNet, loader: Iterable, what: str) -> Scores:
    """Scores of a network in the form for inference over the samples of all processes."""
    matrix = evaluate(network, loader, num_classes=step.num_seen, dist=run.dist, title=f"step {step} {what}")
    return matrix.scores(measure_of(step.task))


def open_run(parsed: Parsed, dist: Dist, interrupts: Interrupts) -> Run:
    """Read the data, and make ready to save and to report."""
    config, spec, task = parsed.config, parsed.spec, parsed.task
    data = TaskData(config.data, spec, task, seed=config.random_seed, dist=dist)
    data.refuse_few(parsed.steps, batches=not (config.test or config.method.mem_size))
    report = build_report(config, task, data, dist, plan(config, METHODS[config.method_name], data, parsed.steps))
    report.images([spec.arriving(step) for step in task.steps], [tuple(map(len, s)) for s in data.sets], data.scenario)
    return Run(config, data, CheckpointStore(config, data, parsed.steps, dist), report, interrupts, dist)


@record
def main(arguments: Sequence[str]) -> int:
    """Run what the command line says; the exit code is 0, or, with one line on standard error, that of `ending_of`."""
    with Interrupts() as interrupts:
        try:
            parsed = parse(arguments)
            dist = init_distributed(parsed.local_rank, deterministic=parsed.config.deterministic)
            setup_logging(dist.is_main, parsed.config.debug)
            parsed.announce(dist)
            run = open_run(parsed, dist, interrupts)
            with run.store.alone(run.report.folder / "lock", run.report.results.with_suffix(".lock")), run.report:
                run_steps(run, parsed.steps)
                run.report.close(latex=parsed.config.latex)
            shut_down()
        except (Exception, Stopped) as error:
            if (ending := ending_of(error)) is None:
                raise
            message, code = ending
            print(message, file=sys.stderr, flush=True)
            if torch.distributed.is_initialized():
                os._exit(code)  # the other processes may wait for this one: leave without waiting for them
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
