"""What a run is told: frozen dataclasses, checked at birth. argparser.py makes the options from their fields.

A field is declared with `option(default, help)`; its annotation gives the option's type. Nothing but `build_*` and
`load_*` functions reads a config: what they build gets plain values. A method's own options are the fields of its
own dataclass in methods/.
"""

import math
import re
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from utils.errors import UserError

LARGEST = 2**31 - 1
"""No whole number of an option is larger."""
LONGEST_NAME = 100
"""Characters of a name that goes into the names of files, with others."""
NO_NAME = re.compile(
    r"""[\x00-\x1f\x7f-\x9f/\\:*?"<>|]|^[-. ]|[. ]$|^(con|nul|aux|prn|com\d|lpt\d)(\.|$)""", re.IGNORECASE
)
"""What a file name may not hold, begin with, end with or be, on one system or another."""


def option(
    default: Any,
    help: str,
    *,
    choices: tuple[str, ...] | None = None,
    least: int = 0,
    most: int = LARGEST,
    positive: bool = False,
) -> Any:
    """A dataclass field that is also a command line option: its help text, and the values that it takes: `choices`, or
    numbers from `least`, whole ones up to `most`, or `positive` ones."""
    bounds = {"least": least, "most": most, "positive": positive}
    return field(default=default, metadata={"help": help, "choices": choices} | bounds)


def with_default(config: type, name: str, default: Any) -> Any:
    """The option `name` of a base class `config`, with a default of the subclass's own."""
    (metadata,) = (spec.metadata for spec in fields(config) if spec.name == name)
    return field(default=default, metadata=metadata)


class Checked:
    """Base of all configurations: a field with `choices` holds one of them, a number is finite and in its bounds."""

    def __post_init__(self) -> None:
        for spec in option_fields(type(self)):
            choices, bounds = spec.metadata["choices"], spec.metadata
            value = getattr(self, spec.name)
            if choices and value is not None and value not in choices:
                raise UserError(f"--{spec.name} {value}: choose from {', '.join(map(str, choices))}")
            if isinstance(spec.default, int | float) and not isinstance(value, int | float):  # a file may say anything
                raise TypeError(f"{spec.name} {value!r} is no number")
            for number in value if isinstance(value, tuple) else (value,):
                if isinstance(number, int | float) and not isinstance(number, bool):
                    self.require(math.isfinite(number), spec.name, "a finite number is needed")
                    self.require(number > 0 or not bounds["positive"], spec.name, "above 0")
                    self.require(number >= bounds["least"], spec.name, f"at least {bounds['least']}")
                    fits = number <= bounds["most"] or isinstance(number, float)
                    self.require(fits, spec.name, f"at most {bounds['most']}")

    def require(self, condition: bool, name: str, allowed: str) -> None:
        """Raise UserError naming the option `name`, its value and what is allowed unless `condition` holds."""
        if not condition:
            value = getattr(self, name)
            # A list by step may say the same for each.
            shown = " ".join(dict.fromkeys(map(str, value))) if isinstance(value, tuple) else value
            raise UserError(f"--{name} {shown}: {allowed}")


@dataclass(frozen=True, kw_only=True)
class DataConfig(Checked):
    """Which images and labels a step sees (SPEC 1, 2)."""

    data_root: Path | None = option(None, "folder of the data set (default: data/voc, data/ade, data/cityscapes)")
    dataset: str = option("voc", "data set")
    class_list: Path | None = option(
        None,
        "of whole images: file with the class folders in the order of their arrival, a line each, FOLDER or FOLDER "
        "NAME (default: imagenet100: data/imagenet100_classes.txt; imagefolder: all folders by name)",
    )
    aux_root: Path | None = option(
        None,
        "folder of pictures without labels, searched with all folders in it, for methods that train on such (default: "
        "the training images of the step, without their labels)",
    )
    task: str = option("15-1", "class order X-Y: X classes in step 0, then Y a step; or an alias, or offline")
    class_order: Path | None = option(
        None, "file with a class order of one's own, instead of --task: a line a step, names with commas in between"
    )
    overlap: bool | None = option(None, "short for --scenario overlapped; without it the scenario is disjoint")
    scenario: str | None = option(
        None,
        "images of a step: all that show its classes; those that show none of later steps; or each image in one step",
        choices=("overlapped", "disjoint", "partitioned"),
    )
    domain_test: str = option(
        "public",
        "test images of domains: as in the published runs, some of which earlier steps trained on; or never any such",
        choices=("public", "clean"),
    )
    data_masking: str = option(
        "current",
        "labels kept in training: of the new classes, also of the old, or new with all else ignored",
        choices=("current", "current+old", "new"),
    )
    label_protocol: str = option(
        "plop",
        "plop: ignored pixels stay ignored, in tests unseen classes are background; "
        "mib: ignored pixels train as background, in tests unseen classes are ignored",
        choices=("plop", "mib"),
    )
    crop_size: int = option(512, "side of the square crops, in pixels", least=32, most=8192)
    resize_size: int | None = option(
        None,
        "of whole images: shorter side in evaluation, before the centre crop (default: crop_size x 256/224)",
        least=1,
        most=8192,
    )
    crop_val: bool = option(True, "evaluate on the centre crop; without: on whole images")
    test_on_val: bool = option(False, "split the training images 80/20 and test on the 20%%")
    val_on_trainset: bool = option(False, "validate on the training images of the step")
    cross_val: bool = option(False, "hold out 20%% of the step's training images for validation")
    ignore_test_bg: bool = option(False, "leave background pixels out of the test scores")
    batch_size: int = option(24, "images per iteration and process", least=1)
    num_workers: int = option(4, "loader processes per process; 0 loads in the main process", most=1024)

    def __post_init__(self) -> None:
        super().__post_init__()
        if None not in (self.overlap, self.scenario) and self.overlap != (self.scenario == "overlapped"):
            switch = "--overlap" if self.overlap else "--no_overlap"
            raise UserError(f"{switch} and --scenario {self.scenario} contradict each other; give one of them")


@dataclass(frozen=True, kw_only=True)
class ModelConfig(Checked):
    """The network (SPEC 3). The number of branches belongs to the method."""

    backbone: str = option("resnet101", "body")
    output_stride: Literal[8, 16, 32] = option(
        16, "input pixels per feature pixel; 32 for whole images alone", choices=(8, 16, 32)
    )
    pretrained: Path | None = option(
        None,
        "weights of the body, a file or torchvision:ResNet101_Weights.IMAGENET1K_V2 and its like (default: "
        "pretrained/BACKBONE_NORM.pth.tar, BACKBONEwWIDTH.safetensors, BACKBONE*.pth)",
    )
    no_pretrained: bool = option(False, "train the body from scratch")
    norm_act: str = option("iabn_sync", "norm", choices=("iabn_sync", "iabn", "abn", "std"))
    pooling: int = option(32, "window of the image pooling in evaluation, in feature pixels", least=1)
    width: int = option(64, "channels of the stem; 64 is the usual ResNet", least=4)
    head: str = option(
        "sum",
        "head; sum: the image pooling is added to the other branches; concat, of DKD and STAR: it stands beside them, "
        "and dropout and one more convolution follow; steps, of SSUL: the same, with such a convolution for each step; "
        "pool, of whole images: the mean of the last map",
        choices=("sum", "concat", "steps", "pool"),
    )
    head_channels: int = option(256, "channels of the head", least=4)
    drop_path: bool = option(True, "random channel weights between the two branches in training")
    stem_activation: bool | None = option(None, "leaky ReLU after the stem norm (default: in plain networks only)")
    freeze: bool = option(False, "keep the body as it is")
    fix_bn: bool = option(False, "keep all norms as they are")

    def __post_init__(self) -> None:
        super().__post_init__()
        fits = self.output_stride < 32 or self.head == "pool"
        self.require(fits, "output_stride", "8 or 16 where pixels are labelled")

    def activates_stem(self, branches: int) -> bool:
        """Whether leaky ReLU follows the stem norm: an RC model has none by default (SPEC 12, first point)."""
        return branches == 1 if self.stem_activation is None else self.stem_activation


@dataclass(frozen=True, kw_only=True)
class OptimConfig(Checked):
    """SGD and its schedule (SPEC 7). Lists are read with `at_step`: one value a step."""

    lr: tuple[float, ...] = option(
        (0.01, 0.001), "learning rate; several: for each step of --step, the last for the rest", positive=True
    )
    epochs: tuple[int, ...] = option((30,), "epochs; several: as for --lr", positive=True)
    momentum: float = option(0.9, "Nesterov momentum")
    weight_decay: float = option(1e-4, "weight decay on everything that trains")
    lr_policy: str = option("poly", "schedule", choices=("poly", "step", "none"))
    lr_power: float = option(0.9, "power of the poly schedule")
    lr_decay_step: int = option(5000, "iterations between two decays of the step schedule", least=1)
    lr_decay_factor: float = option(0.1, "factor of one decay of the step schedule")
    warmup: int = option(0, "iterations of linear warm-up")
    warmup_share: float = option(0.0, "share of all iterations with a linear warm-up from 0.001 of the rate on")
    lr_old: float = option(1.0, "factor on the learning rate of the old classifiers")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(self.warmup_share <= 1, "warmup_share", "from 0 to 1")
        self.require(self.momentum < 1, "momentum", "from 0 to below 1")


@dataclass(frozen=True, kw_only=True)
class RunConfig(Checked):
    """One invocation of run.py: which steps, where the files lie, and the parts above."""

    data: DataConfig
    model: ModelConfig
    optim: OptimConfig
    method: Any  # the dataclass of the chosen method

    name: str = option("Experiment", "name of the run, in the paths of all its files")
    date: str | None = option(None, "date in the name of the results file (default: today, as YYYY-MM-DD)")
    step: tuple[str, ...] = option(("all",), "steps to run: 0, or 1 2 3, or all")
    method_name: str = option("RCIL", "method")
    opt_level: str = option("O0", "O0: fp32, O1: mixed precision", choices=("O0", "O1"))
    checkpoint: Path = option(Path("checkpoints/step"), "folder of the checkpoints")
    step_ckpt: Path | None = option(
        None,
        "checkpoint of the step before the first one that runs; if that is step 0, of step 0 itself, which is then "
        "scored and not trained",
    )
    deterministic: bool = option(False, "the same figures to the last bit in each run on a GPU, too; slower there")
    ckpt: Path | None = option(None, "checkpoint of the step itself, to resume or to test")
    test: bool = option(False, "score the saved checkpoint of each step; train nothing")
    resume: bool = option(True, "resume a half-done step, and leave a finished one alone")
    random_seed: int = option(42, "seed of everything random")
    logdir: Path = option(Path("logs"), "folder of TensorBoard files and pictures")
    results_dir: Path = option(Path("results"), "folder of the results tables")
    sample_num: int = option(8, "test images that are drawn with ground truth and prediction")
    visualize: bool = option(True, "draw pictures")
    wandb: bool = option(False, "show all in Weights & Biases, too (pip install wandb)")
    latex: bool = option(False, "print the final table for a paper, too")
    debug: bool = option(False, "log more")
    profile: int = option(0, "trace this many iterations of each step and log what took longest")
    compile: bool = option(False, "compile the networks with torch.compile: minutes at the start; no gain on CPUs")
    accumulate: int = option(
        1,
        "parts of a batch that go through the networks one by one: less memory; each has its own batch statistics",
        least=1,
    )
    checkpoint_blocks: bool = option(
        False,
        "save memory: keep only the inputs of the body's blocks, and compute these again in the backward pass",
    )
    print_interval: int = option(10, "iterations between two loss figures on screen and in TensorBoard", least=1)
    val_interval: int = option(15, "epochs between two validations; the last epoch always has one", least=1)
    ckpt_interval: int = option(
        0, "epochs between two checkpoints; 0: after every epoch, unless that would take over 1%% of the time", least=0
    )
    save_minutes: float = option(10.0, "minutes between two checkpoints within an epoch", positive=True)
    skip_bad_batches: int = option(0, "batches of a step to leave out where a loss or gradient is not finite")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("checkpoint", "logdir", "results_dir"):
            path = getattr(self, name)
            self.require(path.is_dir() or not path.exists(), name, "a folder is needed, and this is none")
        for name in ("name", "date"):
            word = getattr(self, name)
            fits = word is None or (0 < len(word) <= LONGEST_NAME and not NO_NAME.search(word))
            self.require(fits, name, "a word that every system takes for a part of a file name is needed")
        if self.compile and self.checkpoint_blocks:
            raise UserError("--compile with --checkpoint_blocks: the compiler breaks off there; leave one of them out")
        if self.ckpt and (len(self.step) > 1 or "all" in self.step):
            raise UserError(f"--ckpt {self.ckpt} is the checkpoint of one step; name that step: --step N")


def at_step(values: tuple, step: int) -> Any:
    """The entry of a per-step list (`lr`, `epochs`) for `step`: entry i is for step i, the last serves the rest."""
    return values[min(step, len(values) - 1)]


def shown(value: Any) -> str:
    """A value as it is typed."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def options_of(config: RunConfig) -> dict[str, Any]:
    """All options of a run and their values, as they are typed."""
    parts = (config, config.data, config.model, config.optim, config.method)
    values = {spec.name: getattr(part, spec.name) for part in parts for spec in option_fields(type(part))}
    return {"method": values.pop("method_name")} | values


def option_fields(config: type) -> list[Field]:
    """The fields of a configuration that are command line options."""
    return [spec for spec in fields(config) if "help" in spec.metadata]
