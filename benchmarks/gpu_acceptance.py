"""Does the project do on a GPU what it does on a CPU, and how fast? One card, about ten minutes, a line a check.

    python -m benchmarks.gpu_acceptance [--only PART ...] [--out DIR]
    python -m benchmarks.gpu_acceptance --dry     # every part, tiny, on a CPU: that the script itself works

Ends with pass or fail for each part, exit code 1 if one failed, and writes DIR/gpu_acceptance.json and .md. What is
allowed was set before any card was seen, from the precision of its numbers.
"""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from benchmarks import roofline
from benchmarks.harness import machine, median_seconds, parser, report
from benchmarks.kill_resume import BEGUN, command, outcome
from benchmarks.networks import SMALL, make_batch, make_trainer, our_iteration
from methods import pooled_cube
from methods.pooled_cube import reference
from modules.norm import Norm
from tools.make_shapes import make_shapes
from train import Trainer, placed
from utils.distributed import PATIENCE, Dist, limit_patience
from utils.files import atomic_write

CPU = torch.device("cpu")
PRECISIONS = {
    # TF32, options, dtype of autocast, largest difference of a loss, least cosine of the gradients. In half precision
    # the gradient of fresh weights and two images says little: it is only told.
    "fp32": (False, "--opt_level O0", None, 1e-4, 0.999),
    "TF32": (True, "--opt_level O0", None, 2e-3, 0.99),
    "bf16": (False, "--opt_level O1", torch.bfloat16, 3e-2, -1),
    "fp16": (False, "--opt_level O1", torch.float16, 1e-2, -1),
}
SCALES = (2.0**12, 2.0**8, 2.0**4, 1.0)
"""Of the losses in fp16, whose gradients vanish otherwise. The first that leaves them finite counts."""


@dataclass
class Acceptance:
    """What was found so far, on `device`; tiny networks and few repeats where it is `dry`."""

    device: torch.device
    dry: bool
    rows: list[tuple[str, str, bool]] = field(default_factory=list)

    def check(self, what: str, found: object, passed: bool) -> None:
        """A line of the table."""
        self.rows.append((what, str(found), passed))
        print(f"{'pass' if passed else 'FAIL'}  {what}: {found}", flush=True)

    def trainer(self, options: str, batch: tuple[Tensor, Tensor], device: torch.device) -> Trainer:
        """Of step 1 of RCIL, the same weights at each call."""
        options = f"--method RCIL {SMALL if self.dry else ''} {options}"
        return make_trainer(options, batch, dist=Dist(rank=0, world_size=1, device=device))


def parity(on: Acceptance) -> None:
    """Losses and gradient of one iteration against fp32 on the CPU, without random channel weights."""
    batch = make_batch(64 if on.dry else 256, 2)

    def one_pass(
        device: torch.device, options: str, dtype: torch.dtype | None = None
    ) -> tuple[dict[str, float], Tensor]:
        trainer = on.trainer(f"--no_drop_path {options}", batch, device)
        trainer.precision.dtype = dtype or trainer.precision.dtype
        losses = trainer.model.train()(placed(batch, device))
        for scale in SCALES if dtype == torch.float16 else (1.0,):
            gradients = torch.autograd.grad(sum(losses.values()) * scale, trainer.updater.weights, retain_graph=True)
            gradient = torch.cat([of_weight.flatten().double().cpu() / scale for of_weight in gradients])
            if gradient.isfinite().all():
                break
        return {name: loss.item() for name, loss in losses.items()}, gradient

    expected, direction = one_pass(CPU, "--opt_level O0")
    for name, (tf32, options, dtype, worst_allowed, least_cosine) in PRECISIONS.items():
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=tf32):
            losses, gradient = one_pass(on.device, options, dtype)
        worst = max(abs(losses[term] / expected[term] - 1) for term in expected)
        cosine = float(F.cosine_similarity(gradient, direction, dim=0))
        found, passed = f"{worst:.1e}, {cosine:.4f}", worst < worst_allowed and cosine > least_cosine
        on.check(f"{name}: largest relative difference of a loss, cosine of the gradients", found, passed)


@contextlib.contextmanager
def no_waits(device: torch.device) -> Iterator[None]:
    """RuntimeError where the host waits for the GPU within."""
    if device.type == "cuda":
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        if device.type == "cuda":
            torch.cuda.set_sync_debug_mode("default")


def waits(on: Acceptance) -> None:
    """Three iterations in which nothing is due to be shown."""
    iteration = our_iteration(on.trainer("", make_batch(64 if on.dry else 128, 2), on.device))
    for _ in range(3):
        iteration()
    with no_waits(on.device):
        for _ in range(3):
            iteration()
    on.check("iterations without a wait for the GPU", 3, True)


def group(on: Acceptance) -> None:
    """A real process group of one: the norm over processes, and DistributedDataParallel."""
    backend = "cpu:gloo,cuda:nccl" if on.device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    limit_patience(on.device, PATIENCE)
    try:
        if on.device.type == "cuda":
            kept = [dist.group.WORLD._get_backend(torch.device(name)).options._timeout for name in ("cuda", "cpu")]
            shown = "GPUs, and CPUs, wait for their peers"
            on.check(shown, ", ".join(map(str, kept)), kept[0] == PATIENCE < kept[1])
        norm = Norm(64, kind="iabn_sync", activation=False).to(on.device).train()
        x = torch.randn(4, 64, 32, 32, device=on.device).to(memory_format=torch.channels_last)
        with no_waits(on.device):
            ours = norm._forward_over_processes(x)
        expected = F.batch_norm(x, None, None, norm.scale(), norm.bias, True)
        difference = float((ours - expected).detach().abs().max())
        on.check("norm over processes: largest difference", f"{difference:.1e}", difference < 1e-4)
        trainer = on.trainer("", make_batch(64, 2), on.device)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*broadcast_buffers", FutureWarning)  # see train.py
            trainer.model = DistributedDataParallel(
                trainer.model, broadcast_buffers=False, gradient_as_bucket_view=True
            )
        iteration = our_iteration(trainer)
        for _ in range(2):
            iteration()
        on.check("iterations with DistributedDataParallel", 2, True)
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def speed(on: Acceptance) -> None:
    """Images a second of a later step against the bound of the card, and memory against what was counted."""
    crop, batch = (64, 2) if on.dry else (512, 24)
    iteration = our_iteration(on.trainer("--opt_level O1", make_batch(crop, batch), on.device))
    if on.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    seconds = median_seconds(iteration, repeats=2 if on.dry else 15, warmup=1 if on.dry else 6)
    counted = roofline.trace(roofline.trainer_of("RCIL", "VOC 15-1", crop, batch, "bf16", SMALL if on.dry else ""))
    name = torch.cuda.get_device_name() if on.device.type == "cuda" else "CPU"
    card = next((card for known, card in roofline.CARDS.items() if known in name), None)
    rate = batch / seconds
    if card:
        bound = batch / sum(operator.seconds(card) for operator in counted.operators)
        on.check("images a second, and the bound", f"{rate:.1f}, {bound:.1f}", rate > bound / 3)
    else:
        on.check(f"images a second; no bound is known of {name}", f"{rate:.1f}", True)
    if on.device.type == "cuda":
        peak = torch.cuda.max_memory_allocated()
        passed = 0.7 < peak / counted.peak < 1.3
        on.check("GB at the peak, and counted", f"{peak / 1e9:.1f}, {counted.peak / 1e9:.1f}", passed)


def cube(on: Acceptance) -> None:
    """The pooled cube of each map of a later step: the kernel, and the form in PyTorch, against float64 on the CPU, in
    value and gradient, and how long they take."""
    kernel = pooled_cube.kernel_for(on.device)
    on.check("pooled cube: a kernel serves", kernel is not None, kernel is not None or on.device.type != "cuda")

    def both(distances: Callable, teacher: Tensor, student: Tensor) -> list[Tensor]:
        student = student.detach().requires_grad_()
        value = sum(distances(teacher, student, (4, 8, 12, 16, 20, 24)))
        return [value.detach(), *torch.autograd.grad(value, student)]

    forms = {"in PyTorch": reference} | ({"kernel": kernel} if kernel else {})
    sides = {32: 16} if on.dry else {128: 256, 64: 512, 32: 2048}
    for side, channels in sides.items():
        torch.manual_seed(0)
        few = torch.randn(2, 2, 8, side, side)
        many = torch.randn(2, 1 if on.dry else 24, channels, side, side).to(on.device, torch.bfloat16)
        many = [map_.contiguous(memory_format=torch.channels_last) for map_ in many]
        exact = both(reference, *few.double())
        seconds = {}
        for name, form in forms.items():
            found = both(form, *few.to(on.device))
            errors = [float((a.double().cpu() - b).norm() / b.norm()) for a, b in zip(found, exact, strict=True)]
            shown = ", ".join(f"{error:.1e}" for error in errors)
            said = f"pooled cube, maps of {side}, {name}"
            on.check(f"{said}: relative error of value and gradient", shown, max(errors) < 1e-5)
            seconds[name] = median_seconds(lambda form=form, many=many: both(form, *many), repeats=5)
            passed = seconds[name] <= seconds["in PyTorch"]
            on.check(f"{said}: milliseconds", f"{1e3 * seconds[name]:.2f}", passed)


def resume(on: Acceptance) -> None:
    """A run of three steps that is stopped by SIGTERM, and resumed, against one that is left alone; --deterministic."""
    environment = os.environ | ({"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"} if on.dry else {})
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_shapes(root / "data", train=54, val=23, size=64, seed=46)

        def run(name: str, *, stop: bool = False) -> int:
            place = root / name
            place.mkdir(exist_ok=True)
            words = command(place, root / "data", 1, "--deterministic")
            log = place / "log"
            with open(log, "w") as file:
                process = subprocess.Popen(words, env=environment, stdout=file, stderr=subprocess.STDOUT)
                while stop and BEGUN not in log.read_text() and process.poll() is None:
                    time.sleep(0.05)
                if stop:
                    time.sleep(0.5)
                    process.send_signal(signal.SIGTERM)
                return process.wait(300)

        codes = [run("whole"), run("cut", stop=True), run("cut")]
        on.check("exit codes: left alone, stopped, resumed", codes, codes == [0, 143, 0])
        same = outcome(root / "whole") == outcome(root / "cut")
        on.check("checkpoints and tables are the same to the last bit", same, same)


def tests(on: Acceptance) -> None:
    """The tests that need a GPU, two processes on one card among them."""
    words = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", *(["--collect-only"] if on.dry else [])]
    done = subprocess.run(words, capture_output=True, text=True)
    lines = done.stdout.strip().splitlines() or [done.stderr.strip()[-200:]]
    on.check("tests that need a GPU", lines[-1].strip("= "), done.returncode == 0)


PARTS: tuple[Callable[[Acceptance], None], ...] = (parity, waits, group, cube, speed, resume, tests)


def main() -> int:
    """All parts; one that raises has failed, and the next ones are done all the same."""
    options = parser(__doc__.splitlines()[0])
    options.add_argument("--only", nargs="+", choices=[part.__name__ for part in PARTS], help="these parts")
    options.add_argument("--dry", action="store_true", help="tiny, on a CPU")
    options = options.parse_args()
    if not options.dry and not torch.cuda.is_available():
        sys.exit("no GPU that torch can use is here; --dry tries the script on a CPU")
    on = Acceptance(CPU if options.dry else torch.device("cuda", 0), options.dry)
    seconds: dict[str, Any] = {}
    for part in PARTS:
        if options.only and part.__name__ not in options.only:
            continue
        start = time.perf_counter()
        try:
            part(on)
        except Exception as error:
            traceback.print_exc()
            on.check(part.__name__, f"{type(error).__name__}: {str(error).splitlines()[:1]}", False)
        seconds[part.__name__] = time.perf_counter() - start
    table = ["| check | found | |", "|---|---|---|"]
    table += [f"| {what} | {found} | {'pass' if passed else '**fail**'} |" for what, found, passed in on.rows]
    name = machine()["gpu"] or "CPU, dry"
    with atomic_write(options.out / "gpu_acceptance.md", "w") as file:
        file.write(f"{name}, torch {torch.__version__}\n\n" + "\n".join(table) + "\n")
    report("gpu_acceptance", options.out, [], checks=on.rows, seconds=seconds)
    return 0 if all(passed for *_, passed in on.rows) else 1


if __name__ == "__main__":
    sys.exit(main())
