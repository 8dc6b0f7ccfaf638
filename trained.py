"""A trained network from its checkpoint alone, for the tools: what it is, and which class each of its outputs means."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from argparser import add_switch
from checkpoints import Checkpoint, Identity, about, read_checkpoint
from config import DataConfig, ModelConfig
from dataset import BUILT_IN, DATASETS
from dataset.base import DatasetSpec
from segmentation_module import SegmentationNet, form_of, heads_of, load_network, sizes_of
from tasks import Task, get_task
from utils.constants import IGNORE_INDEX, voc_palette
from utils.errors import UserError
from utils.options import a_path

MODEL_OPTIONS = ("backbone", "output_stride", "width", "head", "head_channels", "norm_act", "stem_activation")
"""Of those of ModelConfig, what an identity says."""


@dataclass(frozen=True)
class TrainedNetwork:
    """The network of a step, on the CPU; `labels`, `class_names`: what each output means."""

    saved: SegmentationNet  # in the form in which it trained
    checkpoint: Checkpoint  # what it was read from, in the present schema
    identity: Identity
    dataset: str
    step: int
    labels: tuple[int, ...]  # class ids of the data set
    class_names: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...]  # RGB of each output, of data of one's own; none in old files
    pooling: int  # as in ModelConfig
    finished: bool

    @cached_property
    def network(self) -> SegmentationNet:
        """Ready for inference: one convolution per site."""
        return self.saved.for_inference()

    @cached_property
    def palette(self) -> tuple[tuple[int, int, int], ...]:
        """RGB by class id: those of the data set; of one's own, where the file does not say them, those of VOC."""
        if spec := built_in(self.dataset):
            return spec.palette
        own = dict(zip(self.labels, self.colours, strict=False))
        return tuple(own.get(label, colour) for label, colour in enumerate(voc_palette(256)))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """256 names, by class id."""
        spec = built_in(self.dataset)
        known = dict(enumerate(spec.class_names) if spec else zip(self.labels, self.class_names, strict=True))
        return tuple(known.get(label, f"class {label}") for label in range(256))


def built_in(dataset: str) -> DatasetSpec | None:
    """The data set of that name, unless it is one of the user's own."""
    return DATASETS[dataset](DataConfig()) if dataset in BUILT_IN else None


def load_trained(path: Path, *, pooling: int | None = None, foreign: dict[str, Any] | None = None) -> TrainedNetwork:
    """The network in the file `path`, a checkpoint or what tools/export.py made of one, as what its identity says.

    `foreign` stands in where it has none: dataset, task, and options of ModelConfig. `pooling` is as in ModelConfig; it
    belongs to the evaluation, and no checkpoint says it. None: as an exported file says, else the usual one. Raises
    UserError if the file holds no network of this kind, or if `foreign` is missing, or not needed.
    """
    checkpoint, _ = read_checkpoint(path, "the checkpoint")
    weights, state = checkpoint["model_state"], checkpoint["trainer_state"]
    with about(path):
        heads, form = heads_of(weights), form_of(weights)
        identity = state.get("identity")
        if identity is None:
            identity = _foreign_identity(foreign, sizes_of(weights), heads)
            if form == "merged" and identity["stem_activation"] is None:
                raise UserError(
                    "its branches are merged, and no weight says whether it had two: give --no_stem_activation for a "
                    "network of RCIL, --stem_activation for one of PLOP or MiB"
                )
        elif foreign:
            raise UserError("it says itself what it is: leave out --dataset, --task and all options of the network")
        if pooling is None:
            pooling = state.get("pooling", ModelConfig.pooling)
        config, labels, names = _understood(identity, pooling)
        colours = _colours(state.get("palette"), labels)
        if not len(names) == len(labels) == sum(heads):
            raise UserError(f"it has {sum(heads)} outputs, and its identity names {len(names)} classes: it was changed")
        branches = 2 if form in ("dual", "frozen") else 1
        network = load_network(config, weights, branches=branches, classes_per_head=heads)
    finished = state.get("finished", True) is True
    dataset, step = identity["dataset"], identity["step"]
    return TrainedNetwork(
        network, checkpoint, identity, dataset, step, labels, names, colours, config.pooling, finished
    )


def add_checkpoint_options(parser: Any) -> None:
    """Give an argparse `parser` what `load_named` reads: which file, and what a foreign one does not say itself."""
    usual = ModelConfig()
    parser.add_argument(
        "--ckpt", required=True, type=a_path, metavar="FILE", help="checkpoint of a step, or its .safetensors"
    )
    text = f"window of the image pooling, as the run had it [that of an exported file, else {usual.pooling}]"
    parser.add_argument("--pooling", type=int, metavar="N", help=text)
    group = parser.add_argument_group("checkpoints of another code base", "which do not say themselves what they are")
    group.add_argument("--dataset", choices=BUILT_IN, help="data set")
    group.add_argument("--task", metavar="T", help="task as for run.py")
    group.add_argument("--output_stride", type=int, metavar="N", help=f"[{usual.output_stride}]")
    group.add_argument("--norm_act", metavar="NORM", help=f"[{usual.norm_act}]")
    add_switch(group, "stem_activation", "leaky ReLU after the stem norm [in single-branch networks only]")


def load_named(options: Any, *, finished: bool = False) -> TrainedNetwork:
    """The network that the options name. UserError as `load_trained`, or of a half-done step where `finished`."""
    names = ("output_stride", "norm_act", "stem_activation")
    model = {name: value for name in names if (value := getattr(options, name)) is not None}
    foreign = {"dataset": options.dataset, "task": options.task} if options.dataset and options.task else None
    if not foreign and (options.dataset or options.task or model):
        raise UserError(
            "--dataset, --task and options of the network are for checkpoints of another code base: give both "
            "--dataset and --task, or none of them"
        )
    trained = load_trained(options.ckpt, pooling=options.pooling, foreign=foreign and foreign | model)
    if finished and not trained.finished:
        raise UserError(f"{options.ckpt} is a half-done step {trained.step}: resume it first")
    return trained


def _foreign_identity(foreign: dict[str, Any] | None, sizes: dict[str, Any], heads: tuple[int, ...]) -> Identity:
    """What the identity would say: from the weights, from the user, else what is usual."""
    if foreign is None:
        raise UserError(
            "it is of another code base and does not say what it is: give --dataset and --task, and where they are "
            "not the usual ones --output_stride, --norm_act and --stem_activation"
        )
    spec = DATASETS[foreign["dataset"]](DataConfig())
    task = get_task(spec.facts, foreign["task"])
    step = task.step(min(len(heads), task.num_steps) - 1)
    if heads != step.classes_per_head:
        raise UserError(
            f"it has classifiers of {list(heads)} classes; step {step} of {spec.name} {task.name} needs "
            f"{list(step.classes_per_head)}: correct --dataset or --task"
        )
    usual, arrived = ModelConfig(), task.arrivals[: step.number + 1]
    identity = {"dataset": spec.name, "task": arrived, "step": step.number}
    identity["classes"] = [spec.class_names[label] for label in step.order]
    return {name: getattr(usual, name) for name in MODEL_OPTIONS} | sizes | foreign | identity


def _understood(identity: Identity, pooling: int) -> tuple[ModelConfig, tuple[int, ...], tuple[str, ...]]:
    """Network, class ids and class names of an identity. UserError where it is none."""
    try:
        names = tuple(map(str, identity["classes"]))
        config = ModelConfig(pooling=pooling, **{name: identity[name] for name in MODEL_OPTIONS})
        spec = built_in(identity["dataset"])
        kind = spec.facts.kind if spec else "image" if config.head == "pool" else "class"
        task = Task("", identity["dataset"], kind, tuple(map(tuple, identity["task"])), len(names))
        labels = task.steps[identity["step"]].order
        if not isinstance(task.dataset, str) or len({*labels} & {*range(IGNORE_INDEX)}) != len(labels):
            raise ValueError("no name, or no class ids")
        return config, labels, names
    except UserError:
        raise
    except (KeyError, TypeError, ValueError, IndexError):
        raise UserError(f"it is of another code base, or was changed: its identity is {identity!r}") from None


def _colours(palette: Any, labels: tuple[int, ...]) -> tuple[tuple[int, int, int], ...]:
    """RGB of each output, as a file has them; none where it has none. UserError where these are no colours."""
    try:
        colours = tuple((int(red), int(green), int(blue)) for red, green, blue in palette or ())
        if colours and not (len(colours) == len(labels) and {*sum(colours, ())} <= {*range(256)}):
            raise ValueError("too few, or no colours")
    except (TypeError, ValueError):
        raise UserError(f"it was changed: its palette is {palette!r}") from None
    return colours
