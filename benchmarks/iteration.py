"""One training iteration with ResNet-101: RCIL at step 1 against its obvious form, FT against torchvision's network.

    python -m benchmarks.iteration                         # crops of 256 and 512, batch 2
    python -m benchmarks.iteration --crops 512 --batch 24  # the paper's size; bf16 autocast on a GPU

RCIL: student, teacher, losses, backward, optimiser. FT: plain blocks against torchvision.models.segmentation's
deeplabv3_resnet101 at output stride 16, cross entropy, the same optimiser.
"""

import sys

import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import resnet101
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.segmentation.deeplabv3 import DeepLabHead, DeepLabV3

from benchmarks.harness import (
    Comparison,
    check,
    compare,
    device,
    matrix_rate,
    parser,
    peak_memory,
    print_peak,
    relative_difference,
    report,
)
from benchmarks.networks import (
    LR,
    MANY,
    SMALL,
    TASK,
    Iteration,
    make_batch,
    make_method,
    make_obvious_pair,
    make_pair,
    obvious_iteration,
    our_iteration,
)
from config import ModelConfig, OptimConfig
from segmentation_module import build_network
from train import Precision, Updater, forward_losses
from utils.optim import build_optimizer, build_schedule

CONFIG = ModelConfig(no_pretrained=True)
KINDS = ("ours", "obvious")


def make_rcil(kind: str, crop: int, batch: int) -> Iteration:
    """The iteration of one of KINDS at full size."""
    pair, iteration = (make_pair, our_iteration) if kind == "ours" else (make_obvious_pair, obvious_iteration)
    return iteration(*pair(CONFIG), make_batch(crop, batch))


def check_rcil() -> float:
    """Losses and all gradients of a small network in float64, with the same weights and no random channel weights."""
    config = ModelConfig(no_pretrained=True, drop_path=False, **SMALL)
    batch = make_batch(64, 2, torch.float64)
    student, teacher = make_pair(config, dtype=torch.float64)
    obvious_student, obvious_teacher = make_obvious_pair(config, dtype=torch.float64)
    precision, method = Precision(device(), mixed=False), make_method("RCIL", 1)
    losses = forward_losses(student, teacher, method, *batch, precision)
    sum(losses.values()).backward()
    expected = obvious_iteration(obvious_student, obvious_teacher, batch)()
    total, expected_total = (sum(value.detach() for value in terms.values()) for terms in (losses, expected))
    difference = check("loss", float((total / expected_total - 1).abs()), 1e-9)
    stem, obvious_stem = student.body.stem.conv.weight.grad, obvious_student.body.mod1.conv1.weight.grad
    return max(difference, check("gradient of the stem", relative_difference(stem, obvious_stem), 1e-9))


def compare_ft(crop: int, batch: int, repeats: int) -> Comparison:
    """Ours as train.py runs it, and torchvision's network in its usual loop."""
    images, labels = make_batch(crop, batch)
    labels = torch.where(labels == 255, 255, 0)
    classes = TASK.num_seen(0)

    ours = build_network(CONFIG, branches=1, classes_per_head=(classes,)).train()
    precision = Precision(device(), mixed=device().type == "cuda")
    ours.place_(device(), precision.activations)
    optimizer = build_optimizer(ours.parameter_groups(), OptimConfig(), LR)
    updater = Updater(optimizer, build_schedule(optimizer, OptimConfig(), MANY), precision)
    method = make_method("FT", 0)

    def our_step() -> None:
        updater.clear()
        updater.step(forward_losses(ours, None, method, images, labels, precision), method)

    body = resnet101(weights=None, replace_stride_with_dilation=[False, False, True])
    theirs = DeepLabV3(
        IntermediateLayerGetter(body, return_layers={"layer4": "out"}), DeepLabHead(2048, classes, (6, 12, 18))
    )
    theirs.to(device()).train()
    # The same fused kernel as ours.
    their_optimizer = torch.optim.SGD(
        theirs.parameters(), LR, momentum=0.9, nesterov=True, weight_decay=1e-4, fused=True
    )

    def their_step() -> None:
        with precision.autocast():
            logits = theirs(images)["out"]
        loss = F.cross_entropy(logits.float(), labels, ignore_index=255)
        their_optimizer.zero_grad()
        loss.backward()
        their_optimizer.step()

    return compare(f"FT against torchvision, {batch} x {crop}", their_step, our_step, repeats=repeats)


def count_operations(crop: int, batch: int) -> float:
    """Multiplications and additions of one of our RCIL iterations, convolutions and matrices, padding counted in."""
    iteration = make_rcil("ours", crop, batch)
    with FlopCounterMode(display=False) as counter:
        iteration()
    return float(counter.get_total_flops())


def main() -> None:
    """Check, time, report; or, called by itself with --measure, only print the peak memory of one kind."""
    options = parser(__doc__.splitlines()[0])
    options.add_argument("--crops", type=int, nargs="+", default=[256, 512])
    options.add_argument("--batch", type=int, default=2)
    options.add_argument("--measure", choices=KINDS, help="print the peak memory of four iterations and end")
    options = options.parse_args()
    if options.measure:
        (crop,) = options.crops

        def work() -> None:
            iteration = make_rcil(options.measure, crop, options.batch)
            for _ in range(4):
                iteration()

        return print_peak(work)

    difference = check_rcil()
    rows, more = [], {}
    for crop in options.crops:
        size = f"{options.batch} x {crop}"
        actions = [make_rcil(kind, crop, options.batch) for kind in ("obvious", "ours")]
        rows.append(compare(f"RCIL, {size}", *actions, repeats=options.repeats, difference=difference))
        del actions
        rows.append(compare_ft(crop, options.batch, options.repeats))
        rate = count_operations(crop, options.batch) / rows[-2].ours
        more[f"operations per second of RCIL, {size}"] = rate
        more[f"images per second of RCIL, {size}"] = options.batch / rows[-2].ours
        arguments = ("--crops", crop, "--batch", options.batch, "--measure")
        ours, obvious = (peak_memory("benchmarks.iteration", *arguments, kind) for kind in KINDS)
        more[f"peak memory of RCIL in MB, {size}"] = {"obvious": obvious / 1e6, "ours": ours / 1e6}
        more[f"peak memory ratio, {size}"] = ours / obvious
    dtype = torch.bfloat16 if device().type == "cuda" else torch.float32
    more["operations per second of a matrix product"] = matrix_rate(dtype)
    report("iteration", options.out, rows, **more)
    return None


if __name__ == "__main__":
    sys.exit(main())
