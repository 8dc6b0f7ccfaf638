"""What a GPU cannot beat: time and memory of a training iteration, counted without one.

    python -m benchmarks.roofline            # RCIL, step 1 of VOC 15-1, crops of 512, batch 24, bf16
    python -m benchmarks.roofline --memory   # peak memory by data set, batch and precision

The iteration of run.py goes over meta tensors, which have shapes and no values, and each operator is counted: its
multiplications and additions, and the bytes that it reads and writes. On a card it takes at least the larger of
operations / rate and bytes / bandwidth, by the data sheet; the sum over all operators is the bound. Memory is what lies
there at once, weights and optimiser included; what CUDA, its libraries and fragments take comes on top. Autocast, which
meta tensors do not have, is imitated: convolutions and products in bf16, all else in the precision that it gets. The
kernels of methods/cube_kernel.py, where they are used, multiply in bf16, and read each map once. `--no_kernel` counts
without them.
"""

import math
import sys
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from typing import Any, NamedTuple
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only
from torch.utils.flop_counter import flop_registry

from benchmarks.harness import parser, report
from benchmarks.networks import make_batch, make_trainer, our_iteration
from methods import cube_kernel
from modules.norm import statistics_kept
from tasks import Facts, get_task
from train import Trainer
from utils.distributed import Dist


class Card(NamedTuple):
    """Of its data sheet: dense operations per second in bf16, summed in fp32, and in fp32; bytes per second."""

    bf16: float
    fp32: float
    bandwidth: float


CARDS = {
    "H100": Card(989e12, 67e12, 3.35e12),
    "A100": Card(312e12, 19.5e12, 2.04e12),
    "RTX 4090": Card(165e12, 82.6e12, 1.01e12),
    "RTX 3090": Card(71e12, 35.6e12, 0.936e12),
}
META = Dist(rank=0, world_size=1, device=torch.device("meta"))
TASKS = {"VOC 15-1": (21, "15-1"), "ADE20K 100-10": (151, "100-10")}


OF_KERNELS = {
    torch.ops.rcil.cube_squares.default: cube_kernel.squares_tiles,
    torch.ops.rcil.cube_gradient.default: cube_kernel.gradient_tiles,
}
"""How the kernels that are no operators of PyTorch divide a map."""


def of_kernel(tiles: Callable, shape: Sequence[int], windows: int) -> int:
    """Its multiplications and additions, for maps of `shape` (B, C, h, w)."""
    tile, grid = tiles(*shape[2:])
    of_window = 3 * 2 * tile.size * tile.read * (tile.read + tile.size)
    return shape[0] * shape[1] * math.prod(grid) * windows * of_window


class Operator(NamedTuple):
    """One call: in which part of the iteration, operations, bytes, and whether in half precision."""

    part: str
    name: str
    operations: float
    bytes: int
    half: bool

    def seconds(self, card: Card) -> float:
        """The least that it takes."""
        return max(self.operations / (card.bf16 if self.half else card.fp32), self.bytes / card.bandwidth)


class Autocast(TorchFunctionMode):
    """In the place of torch.autocast: convolutions and products of matrices in bf16, unless one within turns it off."""

    IN_HALF = (torch.conv2d, torch.matmul, torch.mm, torch.bmm, torch.nn.functional.linear)
    is_on = False

    def __init__(self, device_type: str, dtype: torch.dtype | None = None, enabled: bool = True) -> None:
        super().__init__()
        self.enabled = enabled

    def __enter__(self) -> "Autocast":
        self.before, Autocast.is_on = Autocast.is_on, self.enabled
        return super().__enter__()

    def __exit__(self, *error: object) -> None:
        Autocast.is_on = self.before
        super().__exit__(*error)

    def __torch_function__(
        self, func: Callable, types: object, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if Autocast.is_on and func in self.IN_HALF:
            args, kwargs = tree_map_only(Tensor, lambda x: x.bfloat16() if x.is_floating_point() else x, (args, kwargs))
        return func(*args, **(kwargs or {}))


class Trace(TorchDispatchMode):
    """Counts every operator that is called within, by `part`, and the bytes that are alive."""

    def __init__(self) -> None:
        super().__init__()
        self.operators: list[Operator] = []
        self.part = ""
        self.alive = self.peak = 0
        self._seen: set[int] = set()

    def add(self, tensor: Tensor) -> None:
        """Count the memory of `tensor` from now on until nothing holds it."""
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._seen:
            return
        self._seen.add(key)
        self.alive += size
        self.peak = max(self.peak, self.alive)
        weakref.finalize(storage, self._release, key, size)

    def _release(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.alive -= size

    def __torch_dispatch__(
        self, func: Any, types: object, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        # The update has no form for meta tensors, and returns nothing.
        out = None if func is torch.ops.aten._fused_sgd_.default else func(*args, **(kwargs or {}))
        read = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, Tensor)]
        written = [x for x in tree_flatten(out)[0] if isinstance(x, Tensor)]
        for tensor in written:
            self.add(tensor)
        if not func.is_view:
            if func in OF_KERNELS:
                operations = of_kernel(OF_KERNELS[func], args[1].shape, len(args[-1]))
            else:
                count = flop_registry.get(func.overloadpacket)
                operations = count(*args, **(kwargs or {}), out_val=out) if count else 0
            size = sum(x.numel() * x.element_size() for x in (*read, *written))
            half = any(x.dtype == torch.bfloat16 for x in read) or func in OF_KERNELS
            self.operators.append(Operator(self.part, str(func.overloadpacket), operations, size, half))
        return out


def trainer_of(method: str, task: str, crop: int, batch: int, precision: str, *more: str) -> Trainer:
    """The trainer of step 1 of `method` with ResNet-101 on meta tensors, with `more` options of run.py."""
    classes, name = TASKS[task]
    step = get_task(Facts(dataset="any", num_units=classes - 1, num_classes=classes), name).step(1)
    options = f"--method {method} --opt_level {'O1' if precision == 'bf16' else 'O0'} {' '.join(more)}"
    # Student and teacher share what is frozen, which meta tensors cannot show: they have no values.
    with mock.patch("torch.equal", lambda *_: True), mock.patch("torch.autocast", Autocast):
        return make_trainer(options, make_batch(crop, batch), step=step, dist=META)


def trace(trainer: Trainer, *, kernel: bool = True) -> Trace:
    """The second iteration, whose memory is that of all that come; without `kernel` the pooled cube is PyTorch's."""
    counted = Trace()

    def begin(part: str) -> Callable[..., None]:
        def hook(*_: object) -> None:
            counted.part = part

        return hook

    parts = {"student": trainer.student, "teacher": trainer.teacher, "losses": trainer.method}
    for part, module in parts.items():
        if module is not None:
            module.register_forward_pre_hook(begin(part))
    trainer.method.register_forward_hook(begin("backward"))
    trainer.updater.optimizer.register_step_pre_hook(begin("update"))
    iteration = our_iteration(trainer)

    @contextmanager
    def again() -> Iterator[None]:
        # What --checkpoint_blocks computes a second time is under the autocast of the first, if that is a real one.
        with statistics_kept(), trainer.precision.autocast():
            yield

    chosen = mock.patch("methods.pooled_cube.kernel_for", lambda _: cube_kernel.cube_distances if kernel else None)
    with chosen, mock.patch("torch.autocast", Autocast), mock.patch("modules.resnet.statistics_kept", again), counted:
        for module in (trainer.model, trainer.teacher or trainer.student):
            for tensor in (*module.parameters(), *module.buffers()):
                counted.add(tensor)
        for state in trainer.updater.optimizer.state.values():
            for tensor in state.values():
                counted.add(tensor)
        iteration()
        counted.operators.clear()
        counted.part = "student"
        iteration()
    return counted


def bounds(trainer: Trainer, batch: int, *, kernel: bool) -> dict[str, dict[str, float]]:
    """By card: the least milliseconds of each part of an iteration, and the most images a second."""
    operators = trace(trainer, kernel=kernel).operators
    found = {}
    for name, card in CARDS.items():
        parts: Counter[str] = Counter()
        for operator in operators:
            parts[operator.part] += operator.seconds(card)
        milliseconds = {part: 1e3 * seconds for part, seconds in parts.items()}
        found[name] = milliseconds | {"images a second": batch / parts.total()}
    return found


def memory(method: str, crop: int, batches: Sequence[int]) -> dict[str, list[float]]:
    """Peaks in GB, without and with --checkpoint_blocks, by task, precision and batch."""
    found = {}
    for task, precision, batch in product(TASKS, ("bf16", "fp32"), batches):
        trainers = (trainer_of(method, task, crop, batch, precision, *more) for more in ((), ("--checkpoint_blocks",)))
        found[f"{task}, {precision}, batch {batch}"] = [trace(trainer).peak / 1e9 for trainer in trainers]
    return found


def main() -> None:
    """Print one of the two tables, and write it."""
    options = parser(__doc__.splitlines()[0])
    options.add_argument("--method", default="RCIL")
    options.add_argument("--crop", type=int, default=512)
    options.add_argument("--batch", type=int, nargs="+", default=[24])
    options.add_argument("--memory", action="store_true", help="the table of memory, for each --batch")
    options.add_argument("--no_kernel", action="store_true", help="the pooled cube in PyTorch")
    options = options.parse_args()
    if options.memory:
        name, heads = "memory_counted", ["GB", "with --checkpoint_blocks"]
        rows = memory(options.method, options.crop, options.batch)
    else:
        name, (batch, *_) = "roofline", options.batch
        trainer = trainer_of(options.method, "VOC 15-1", options.crop, batch, "bf16")
        found = bounds(trainer, batch, kernel=not options.no_kernel)
        heads, rows = [*found["H100"]], {card: [*parts.values()] for card, parts in found.items()}
    print(f"| | {' | '.join(heads)} |\n|---|{'--:|' * len(heads)}")
    for row, values in rows.items():
        print(f"| {row} | {' | '.join(f'{value:.1f}' for value in values)} |")
    report(name, options.out, [], heads=heads, table=rows)


if __name__ == "__main__":
    sys.exit(main())
