"""From the configuration to the loaders of a step. A new data set is a file here and a line in DATASETS."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from config import DataConfig
from dataset import ade, cityscapes, folder, imagefolder, voc
from dataset.auxiliary import PictureDataset, find_pictures
from dataset.base import DatasetSpec, Sample, StepDataset
from dataset.catalogue import are_published, images_digest, root_of, scenario_of, select_steps
from dataset.labels import seen_lut, training_lut
from dataset.memory import Memory, MemoryRule, name_of
from dataset.sampler import DrawSampler, EvalBatchSampler, MixedSampler, TrainSampler
from dataset.splits import choose, refuse_empty
from tasks import Step, Task, get_task, read_class_order
from utils.checkpoint import fingerprint_of
from utils.distributed import Dist, require_same
from utils.errors import UserError
from utils.random_state import derive_seed
from utils.stopping import ignore_in_worker

DATASETS: dict[str, Callable[[DataConfig], DatasetSpec]] = {
    "voc": lambda config: voc.SPEC,
    "ade": lambda config: ade.SPEC,
    "cityscapes_domain": lambda config: cityscapes.DOMAIN_SPEC,
    "cityscape": lambda config: cityscapes.CLASS_SPEC,
    "folder": folder.spec,
    "imagenet100": imagefolder.imagenet100,
    "imagefolder": imagefolder.spec,
}
"""What --dataset names: from the options of a run to the data set."""
BUILT_IN = ("voc", "ade", "cityscapes_domain", "cityscape")
"""Data sets whose classes are the same, whatever the options are."""


def open_dataset(config: DataConfig) -> DatasetSpec:
    """The data set of a run. UserError where there is none such, or where options do not fit it."""
    if config.dataset not in DATASETS:
        raise UserError(f"--dataset {config.dataset}: choose from {', '.join(DATASETS)}")
    spec = DATASETS[config.dataset](config)
    if config.scenario and config.scenario not in spec.scenarios:
        raise UserError(
            f"--scenario {config.scenario}: {spec.name} deals out its images {spec.scenarios[0]}; leave it out"
        )
    if config.cross_val and config.val_on_trainset:
        raise UserError("--cross_val and --val_on_trainset both say where validation images come from; give one")
    if spec.facts.kind != "domain" and config.domain_test != "public":
        raise UserError(f"--domain_test {config.domain_test}: {spec.name} has no domains; leave it out")
    if spec.facts.kind == "domain" and config.test_on_val:
        raise UserError(f"--test_on_val: {spec.name} takes its test images from both splits; see --domain_test")
    if not spec.facts.has_background and config.label_protocol != "plop":
        raise UserError(f"--label_protocol {config.label_protocol}: {spec.name} has no background; leave it out")
    if not spec.facts.has_background and config.ignore_test_bg:
        raise UserError(f"--ignore_test_bg: {spec.name} has no background; leave it out")
    if spec.facts.kind == "image" and not config.crop_val:
        raise UserError(f"--no_crop_val: all images of {spec.name} are scored in one size; see --resize_size")
    if spec.facts.kind != "image" and (config.resize_size or config.class_list):
        name = "resize_size" if config.resize_size else "class_list"
        raise UserError(f"--{name} {getattr(config, name)}: {spec.name} has masks; leave it out")
    return spec


def open_task(config: DataConfig, spec: DatasetSpec) -> Task:
    """The task of a run: that of --class_order, else that of --task."""
    if config.class_order:
        task = read_class_order(spec.facts, config.class_order, spec.class_names)
    else:
        task = get_task(spec.facts, config.task)
    return replace(task, scenario=scenario_of(config, spec))


SALIENCY = "saliency_map"
"""Folder of the saliency maps in a data set: NAME.png for each image NAME, in which what stands out is not 0."""


class TaskData:
    """The images of every step of a task, as this process sees them. Making one reads the data set.

    `sets`: by step; `auxiliary`: the pictures of `--aux_root`, if it is given. Raises UserError where the data are not
    what they should be, or where the processes of a run do not see the same.
    """

    def __init__(self, config: DataConfig, spec: DatasetSpec, task: Task, *, seed: int, dist: Dist) -> None:
        self.config = config
        self.spec = spec
        self.task = task
        self.seed = seed
        self.dist = dist
        self.root = root_of(config, spec)
        self.sets = select_steps(config, spec, task)
        self._test_transform = spec.eval_transform(config)
        require_same(
            {
                "data": fingerprint_of([images_digest(images) for of_step in self.sets for images in of_step]),
                "--aux_root": str(config.aux_root is not None),
            }
        )
        self.auxiliary = None
        if config.aux_root:
            batch = config.batch_size * dist.world_size
            self.auxiliary = find_pictures(config.aux_root.absolute(), at_least=batch)
            require_same({"--aux_root": self.auxiliary.digest})

    def refuse_few(self, steps: Sequence[Step], *, batches: bool = False) -> None:
        """UserError where a set of one of `steps` has no image, or, if there are to be `batches`, the training set not
        enough for one: known now, and not when the steps before are trained."""
        for step in steps:
            refuse_empty(self.sets[step.number], step)
            if batches:
                require_full_batch(len(self.sets[step.number].train), self.config.batch_size, self.dist, step)

    @property
    def class_names(self) -> list[str]:
        """Of all classes of the task, in the order of arrival."""
        return [self.spec.class_names[label] for label in self.task.steps[-1].order]

    @property
    def are_published(self) -> bool:
        """Whether these are the pictures that published figures are about."""
        return are_published(self.spec, self.root)

    @property
    def palette(self) -> list[tuple[int, int, int]]:
        """Colours, as `class_names`."""
        return [self.spec.palette[label] for label in self.task.steps[-1].order]

    def train(
        self,
        step: Step,
        *,
        memory: Memory = (),
        rule: MemoryRule | None = None,
        saliency: bool = False,
        auxiliary: bool = False,
    ) -> "TrainBatches":
        """The training batches of `step` for this process, with the images of a `memory` as its `rule` says, with
        `saliency` maps and, on request, with `auxiliary` images, which have no labels.

        UserError unless they fill a batch of every process, where an image of the memory is no training image of the
        task, and where a saliency map is missing.
        """
        config, samples, seed = self.config, self.sets[step.number].train, derive_seed(self.seed, step.number)
        remembered, mixed = self.samples_of(memory), bool(memory) and rule.mixed
        options = {"batch_size": config.batch_size, "seed": seed}
        options |= {"rank": self.dist.rank, "world_size": self.dist.world_size}
        count = len(samples) if mixed else len(samples) + len(remembered)
        sampler = MixedSampler(count, len(remembered), **options) if mixed else TrainSampler(count, **options)
        require_full_batch(count, config.batch_size, self.dist, step)
        if saliency:
            self._require_saliency([*samples, *remembered])
        lut = memory_lut = self._train_lut(step)
        if memory and rule.all_labels:
            memory_lut = self._train_lut(step, data_masking="current+old")
        dataset = StepDataset(
            samples,
            lut,
            self.spec.train_transform(config),
            seed,
            memory=(remembered, memory_lut),
            saliency=self._saliency if saliency else None,
        )
        loader = _loader(
            dataset,
            config.num_workers,
            sampler=sampler,
            batch_size=config.batch_size,
            # Training starts a new pass all the time; evaluation is rare, so its workers may go in between.
            persistent_workers=config.num_workers > 0,
        )
        return TrainBatches(loader, memory, self._auxiliary_loader(step, sampler) if auxiliary else None)

    def num_batches(self, step: Step) -> int:
        """Of an epoch of `step` in each process, without a memory."""
        return len(self.sets[step.number].train) // (self.config.batch_size * self.dist.world_size)

    def samples_of(self, memory: Memory) -> list[Sample]:
        """The images of a memory. UserError where one is no training image of the task."""
        if not memory:
            return []
        by_name = {name_of(sample, self.root): sample for of_step in self.sets for sample in of_step.train}
        for image in memory:
            if image.name not in by_name:
                raise UserError(
                    f"the memory holds {image.name}, which is no training image in {self.root}; put it back, or train "
                    "the step anew with --no_resume"
                )
        return [by_name[image.name] for image in memory]

    def search(self, step: Step, memory: Memory, rule: MemoryRule) -> tuple[list[str], DataLoader]:
        """All training images of `step`, and behind them those of a `memory`, to see what is on them: by index their
        names, and batches of those that this process is to look at, once each, whose indices are `sampler.batches`."""
        config, samples = self.config, [*self.sets[step.number].train, *self.samples_of(memory)]
        transform = self.spec.eval_transform if rule.centred else self.spec.train_transform
        batches = EvalBatchSampler(
            [(1, 1)] * len(samples), max_pixels=config.batch_size, rank=self.dist.rank, world_size=self.dist.world_size
        )
        seed = derive_seed(self.seed, step.number)
        dataset = StepDataset(samples, self._train_lut(step), transform(replace(config, crop_val=True)), seed)
        loader = _loader(dataset, config.num_workers, batch_sampler=batches)
        return [name_of(sample, self.root) for sample in samples], loader

    def _saliency(self, sample: Sample) -> Path:
        return self.root / SALIENCY / f"{sample.image.stem}.png"

    def _require_saliency(self, samples: Sequence[Sample]) -> None:
        for path in map(self._saliency, samples):
            if not path.is_file():
                raise UserError(
                    f"no saliency map {path}; make all with: python tools/make_saliency.py {self.root} "
                    f"--dataset {self.spec.name}, or take the whole background as unknown with --saliency none"
                )

    def _auxiliary_loader(self, step: Step, beside: TrainSampler) -> DataLoader:
        """As many pictures without labels as `beside` draws images: those of `--aux_root`, or of the step itself."""
        config, seed = self.config, derive_seed(self.seed, step.number, 1)
        own = [sample.image for sample in self.sets[step.number].train]
        paths = self.auxiliary.paths if self.auxiliary else own
        sampler = DrawSampler(
            len(paths),
            count=beside.used,
            batch_size=config.batch_size,
            rank=self.dist.rank,
            world_size=self.dist.world_size,
            seed=seed,
        )
        return _loader(
            PictureDataset(paths, self.spec.train_transform(config), seed),
            config.num_workers,
            sampler=sampler,
            batch_size=config.batch_size,
            persistent_workers=config.num_workers > 0,
        )

    def val(self, step: Step) -> DataLoader:
        """The validation batches of `step`, each image once over all processes."""
        # MiB's code validates as it tests.
        lut = self._test_lut(step) if self.config.label_protocol == "mib" else self._train_lut(step)
        return self._eval_loader(self.sets[step.number].val, lut, step)

    def test(self, step: Step) -> DataLoader:
        """The test batches of `step`, each image once over all processes."""
        return self._eval_loader(self.sets[step.number].test, self._test_lut(step), step)

    def showcase(self, count: int) -> StepDataset:
        """`count` of the test images of the last step, which are drawn after every step; labels as after the last one.

        Chosen so that each class occurs, where so many images can show all. A crop may still leave one out.
        """
        last = self.task.steps[-1]
        wanted = set(last.order) - ({0} if last.has_background else set())
        samples = self.sets[-1].test
        chosen = [samples[position] for position in choose([sample.classes for sample in samples], wanted, count)]
        return StepDataset(chosen, self._test_lut(last), self._test_transform, seed=0)

    @property
    def scenario(self) -> str:
        """Which images serve a step."""
        return scenario_of(self.config, self.spec)

    def _train_lut(self, step: Step, *, data_masking: str | None = None) -> np.ndarray:
        config = self.config
        options = {"data_masking": data_masking or config.data_masking, "label_protocol": config.label_protocol}
        return training_lut(step, class_of=self.spec.class_of, **options)

    def _test_lut(self, step: Step) -> np.ndarray:
        protocol = self.config.label_protocol
        ignores = self.config.ignore_test_bg or (protocol == "mib" and not self.spec.labels_background)
        return seen_lut(step, ignore_background=ignores, class_of=self.spec.class_of, label_protocol=protocol)

    def _eval_loader(self, samples: Sequence[Sample], lut: np.ndarray, step: Step) -> DataLoader:
        config, crop = self.config, (self.config.crop_size, self.config.crop_size)
        batches = EvalBatchSampler(
            [crop if config.crop_val else sample.size for sample in samples],
            # As much as a batch of training: whole images may be larger than its crops.
            max_pixels=config.batch_size * config.crop_size**2,
            rank=self.dist.rank,
            world_size=self.dist.world_size,
        )
        dataset = StepDataset(samples, lut, self._test_transform, derive_seed(self.seed, step.number))
        return _loader(dataset, config.num_workers, batch_sampler=batches)


class TrainBatches:
    """The training batches of a step, epoch by epoch: images uint8 (B,3,H,W) and labels uint8 (B,H,W), 255 ignored.

    A last batch that is not full is left out.
    """

    def __init__(self, loader: DataLoader, memory: Memory = (), auxiliary: DataLoader | None = None) -> None:
        self._loader = loader
        self._auxiliary = auxiliary
        self._with_auxiliary = False  # in the last epoch asked for
        self.num_images = loader.dataset.size_of_step
        self.memory = memory

    def __len__(self) -> int:
        return len(self._loader)

    def epoch(self, number: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of epoch `number`, without its first `start` ones. The same whenever it is asked for."""
        self._loader.sampler.set_epoch(number, start)
        self._with_auxiliary = False
        return iter(self._loader)

    def epoch_with_auxiliary(self, number: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """As `epoch`, and with each batch as many images without labels, uint8 (B,3,H,W)."""
        batches = self.epoch(number, start)
        self._auxiliary.sampler.set_epoch(number, start)
        self._with_auxiliary = True
        return ((*batch, pictures) for batch, pictures in zip(batches, self._auxiliary, strict=True))

    def names(self, batch: int, rank: int) -> list[str]:
        """Names of the images of batch number `batch` of the last epoch asked for, in process `rank`."""
        samples = self._loader.dataset.samples
        names = [samples[index].image.name for index in self._loader.sampler.batch(batch, rank)]
        if self._with_auxiliary:
            paths = self._auxiliary.dataset.paths
            names += [paths[index].name for index in self._auxiliary.sampler.batch(batch, rank)]
        return names


def require_full_batch(num_images: int, batch_size: int, dist: Dist, step: Step) -> None:
    """UserError unless the training set of `step` fills a batch of every process."""
    if num_images >= batch_size * dist.world_size:
        return
    largest = num_images // dist.world_size
    # One image to a batch is not enough for the norms: that is no cure.
    cure = f"give --batch_size {largest} or less" if largest > 1 else "add images, or start fewer processes"
    raise UserError(
        f"--batch_size {batch_size}: {batch_size} x {dist.world_size} process(es) is more than the {num_images} "
        f"training images of step {step}; {cure}"
    )


def _loader(dataset: Dataset, num_workers: int, **options: Any) -> DataLoader:
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
