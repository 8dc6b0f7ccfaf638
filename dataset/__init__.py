"""From the configuration to the loaders of a step. A new data set is a file here and a line in DATASETS."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from config import DataConfig
from dataset import ade, cityscapes, folder, voc
from dataset.base import DatasetSpec, Sample, StepDataset
from dataset.coverage import choose
from dataset.index import load_index
from dataset.labels import seen_lut, training_lut
from dataset.sampler import EvalBatchSampler, TrainSampler
from dataset.splits import Split, SplitRules, StepSets
from dataset.transform import Transform, crop_transform, derive_seed, train_transform, whole_image
from tasks import Task, get_task, read_class_order
from utils.errors import UserError
from utils.interrupt import ignore_in_worker

DATASETS: dict[str, Callable[[Path | None], DatasetSpec]] = {
    "voc": lambda root: voc.SPEC,
    "ade": lambda root: ade.SPEC,
    "cityscapes_domain": lambda root: cityscapes.DOMAIN_SPEC,
    "cityscape": lambda root: cityscapes.CLASS_SPEC,
    "folder": folder.spec,
}
"""What --dataset names: from --data_root, where it is given, to the data set."""


def open_dataset(config: DataConfig) -> DatasetSpec:
    """The data set of a run. UserError where there is none such, or where options do not fit it."""
    if config.dataset not in DATASETS:
        raise UserError(f"--dataset {config.dataset}: choose from {', '.join(DATASETS)}")
    spec = DATASETS[config.dataset](config.data_root)
    _refuse_misfits(config, spec)
    return spec


def _refuse_misfits(config: DataConfig, spec: DatasetSpec) -> None:
    """UserError for options that the data set, or another option, leaves without a meaning."""
    if config.scenario and config.scenario not in spec.scenarios:
        raise UserError(
            f"--scenario {config.scenario}: {spec.name} deals out its images {spec.scenarios[0]}; leave it out"
        )
    if config.cross_val and config.val_on_trainset:
        raise UserError("--cross_val and --val_on_trainset both say where validation images come from; give one")
    if spec.facts.kind == "class" and config.domain_test != "public":
        raise UserError(f"--domain_test {config.domain_test}: {spec.name} has no domains; leave it out")
    if spec.facts.kind == "domain" and config.test_on_val:
        raise UserError(f"--test_on_val: {spec.name} takes its test images from both splits; see --domain_test")
    if spec.facts.kind == "domain" and config.label_protocol != "plop":
        raise UserError(f"--label_protocol {config.label_protocol}: {spec.name} has no background; leave it out")
    if spec.facts.kind == "domain" and config.ignore_test_bg:
        raise UserError(f"--ignore_test_bg: {spec.name} has no background; leave it out")


def open_task(config: DataConfig, spec: DatasetSpec) -> Task:
    """The task of a run: that of --class_order, else that of --task."""
    if config.class_order:
        return read_class_order(spec.facts, config.class_order, spec.class_names)
    return get_task(spec.facts, config.task)


def scenario_of(config: DataConfig, spec: DatasetSpec) -> str:
    """Which images serve a step: what the options say where the data set leaves a choice."""
    if len(spec.scenarios) == 1:
        return spec.scenarios[0]
    return config.scenario or ("overlapped" if config.overlap else "disjoint")


def select_steps(config: DataConfig, spec: DatasetSpec, task: Task) -> list[StepSets]:
    """The samples of every step of the task. UserError where the data are not what they should be."""
    rules = SplitRules(
        scenario=scenario_of(config, spec),
        domain_test=config.domain_test,
        test_on_val=config.test_on_val,
        val_on_trainset=config.val_on_trainset,
        cross_val=config.cross_val,
    )
    # Absolute, so that the index is the same whatever folder the run was started from.
    root = (config.data_root or Path("data") / spec.folder).absolute()
    train, val = (load_split(spec, root, name) for name in ("train", "val"))
    return [spec.select(train, val, task, step, rules) for step in range(task.num_steps)]


@dataclass(frozen=True)
class Loaders:
    """Loaders of one step. A batch is images uint8 (B,3,H,W) and labels uint8 (B,H,W), 255 to be ignored.

    `train` leaves out a last batch that is not full; call `train.sampler.set_epoch(epoch)` before each pass.
    `val` and `test` hold each sample once over all processes; with whole images a batch is of pictures of one size.
    """

    train: DataLoader
    val: DataLoader
    test: DataLoader


def build_loaders(
    config: DataConfig,
    spec: DatasetSpec,
    task: Task,
    step: int,
    sets: StepSets,
    *,
    seed: int,
    rank: int,
    world_size: int,
) -> Loaders:
    """The data of one step, its `sets`, for process `rank` of `world_size`."""
    step_seed = derive_seed(seed, step)
    common = {"class_of": spec.class_of, "label_protocol": config.label_protocol}
    train_lut = training_lut(task, step, data_masking=config.data_masking, **common)
    test_lut = _test_lut(config, spec, task, step)
    # MiB's code validates as it tests.
    val_lut = test_lut if config.label_protocol == "mib" else train_lut

    def eval_loader(samples: Sequence[Sample], lut: np.ndarray) -> DataLoader:
        crop = config.crop_size, config.crop_size
        batches = EvalBatchSampler(
            [crop if config.crop_val else sample.size for sample in samples],
            # As much as a batch of training: whole images may be larger than its crops.
            max_pixels=config.batch_size * config.crop_size**2,
            rank=rank,
            world_size=world_size,
        )
        dataset = StepDataset(samples, lut, _test_transform(config), step_seed)
        return _loader(dataset, config.num_workers, batch_sampler=batches)

    train_sampler = TrainSampler(
        len(sets.train), batch_size=config.batch_size, rank=rank, world_size=world_size, seed=step_seed
    )
    return Loaders(
        train=_loader(
            StepDataset(sets.train, train_lut, train_transform(config.crop_size), step_seed),
            config.num_workers,
            sampler=train_sampler,
            batch_size=config.batch_size,
            # Training starts a new pass all the time; evaluation is rare, so its workers may go in between.
            persistent_workers=config.num_workers > 0,
        ),
        val=eval_loader(sets.val, val_lut),
        test=eval_loader(sets.test, test_lut),
    )


def showcase(config: DataConfig, spec: DatasetSpec, task: Task, samples: Sequence[Sample], count: int) -> StepDataset:
    """`count` of the test images of the last step, which are drawn after every step; labels as after the last one.

    Chosen so that each class occurs, where so many images can show all. A crop may still leave one out.
    """
    last = task.num_steps - 1
    wanted = set(task.order(last)) - ({0} if task.kind == "class" else set())
    chosen = [samples[position] for position in choose([sample.classes for sample in samples], wanted, count)]
    return StepDataset(chosen, _test_lut(config, spec, task, last), _test_transform(config), seed=0)


def _test_lut(config: DataConfig, spec: DatasetSpec, task: Task, step: int) -> np.ndarray:
    """The label table of tests after `step`."""
    unlabelled = config.label_protocol == "mib" and not spec.labels_background
    ignores = config.ignore_test_bg or unlabelled
    protocol = config.label_protocol
    return seen_lut(task, step, ignore_background=ignores, class_of=spec.class_of, label_protocol=protocol)


def _test_transform(config: DataConfig) -> Transform:
    return crop_transform(config.crop_size) if config.crop_val else whole_image


def load_split(spec: DatasetSpec, root: Path, name: str) -> Split:
    """The samples of split `name` with the classes that occur in each."""
    samples = spec.list_samples(root, name)
    values, sizes = load_index(samples, root=root, name=f"{spec.folder}-{name}", label_values=spec.label_values)
    sized = [sample._replace(size=tuple(size)) for sample, size in zip(samples, sizes.tolist(), strict=True)]
    return make_split(spec, sized, values)


def make_split(spec: DatasetSpec, samples: Sequence[Sample], values: np.ndarray) -> Split:
    """A split of N samples; `values` (N,256) bool: which label values occur in the mask of each."""
    classes = np.zeros_like(values)
    for value in spec.label_values:
        classes[:, spec.class_of[value]] |= values[:, value]
    shown = [tuple(np.flatnonzero(row).tolist()) for row in classes]
    samples = [sample._replace(classes=of_it) for sample, of_it in zip(samples, shown, strict=True)]
    return Split(samples, classes)


def require_full_batch(train: DataLoader) -> None:
    """UserError unless the training set of a step fills a batch of every process."""
    num_images, world_size = train.sampler.size, train.sampler.world_size
    if num_images >= train.batch_size * world_size:
        return
    largest = num_images // world_size
    mend = f"give --batch_size {largest} or less" if largest else "start fewer processes"
    raise UserError(
        f"--batch_size {train.batch_size}: {train.batch_size} x {world_size} process(es) is more than the {num_images} "
        f"training images of the step; {mend}"
    )


def _loader(dataset: StepDataset, num_workers: int, **options: Any) -> DataLoader:
    """A loader whose workers, of one thread each, keep two batches ready each, in memory that a GPU can fetch from."""
    return DataLoader(
        dataset,
        num_workers=num_workers,
        pin_memory=torch.cuda.is_available(),
        # Its own, so that starting a pass draws nothing from the generator of the main process.
        generator=torch.Generator(),
        worker_init_fn=ignore_in_worker,
        **options,
    )
