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
    SMALL,
    Iteration,
    make_batch,
    make_obvious_pair,
    make_trainer,
    obvious_iteration,
    on_device,
    our_iteration,
    step_of,
)

KINDS = ("ours", "obvious")


def make_rcil(kind: str, crop: int, batch: int) -> Iteration:
    """The iteration of one of KINDS at full size."""
    images = make_batch(crop, batch)
    trainer = make_trainer("--method RCIL", images)
    if kind == "ours":
        return our_iteration(trainer)
    return obvious_iteration(*make_obvious_pair(trainer), on_device(images))


def check_rcil() -> float:
    """Loss and gradient of the stem: a small network in float64, the same weights, no random channel weights."""
    images = make_batch(64, 2)
    trainer = make_trainer(f"--method RCIL --no_drop_path {SMALL}", images, dtype=torch.float64)
    batch = on_device(images, torch.float64)
    student, teacher = make_obvious_pair(trainer, torch.float64)
    losses = trainer.model.train()(batch)
    sum(losses.values()).backward()
    expected = obvious_iteration(student, teacher, batch)()
    total, expected_total = (sum(value.detach() for value in terms.values()) for terms in (losses, expected))
    difference = check("loss", float((total / expected_total - 1).abs()), 1e-9)
    stem, obvious_stem = trainer.student.body.stem.conv.weight.grad, student.body.mod1.conv1.weight.grad
    return max(difference, check("gradient of the stem", relative_difference(stem, obvious_stem), 1e-9))


def compare_ft(crop: int, batch: int, repeats: int) -> Comparison:
    """Ours as run.py trains step 0, and torchvision's network in its usual loop."""
    images, labels = make_batch(crop, batch)
    loaded = images, torch.where(labels == 255, 255, 0).byte()
    trainer = make_trainer("--method FT", loaded, step=step_of(0))
    images, labels, *_ = on_device(loaded)

    body = resnet101(weights=None, replace_stride_with_dilation=[False, False, True])
    head = DeepLabHead(2048, trainer.step.num_seen, (6, 12, 18))
    torchvisions = DeepLabV3(IntermediateLayerGetter(body, return_layers={"layer4": "out"}), head)
    torchvisions.to(device()).train()
    # The same fused kernel as ours.
    optimizer = torch.optim.SGD(
        torchvisions.parameters(), LR, momentum=0.9, nesterov=True, weight_decay=1e-4, fused=True
    )

    def iteration() -> None:
        with trainer.precision.autocast():
            logits = torchvisions(images)["out"]
        loss = F.cross_entropy(logits.float(), labels, ignore_index=255)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return compare(f"FT against torchvision, {batch} x {crop}", iteration, our_iteration(trainer), repeats=repeats)


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
