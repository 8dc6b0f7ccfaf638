"""The pooled cube loss, forward and backward, on the feature maps of ResNet-101.

    python -m benchmarks.pooled_cube              # two crops of 512
    python -m benchmarks.pooled_cube --crop 256

Both layouts that maps come in: contiguous, as PyTorch starts with, and channels last, as the network here makes them.
"""

import torch
from torch import Tensor

from benchmarks.harness import check, compare, device, parser, relative_difference, report
from benchmarks.obvious import losses as obvious
from methods.pooled_cube import channel_cube_distance, difference_of_squares, spatial_cube_distance

LAYOUTS = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}


def make_maps(crop: int, batch: int, layout: torch.memory_format) -> list[Tensor]:
    """Four stages, pre_logits and small logits of 21 classes, at output stride 16."""
    sizes = [(256, 4), (512, 8), (1024, 16), (2048, 16), (256, 16), (21, 16)]
    shapes = [(batch, channels, crop // stride, crop // stride) for channels, stride in sizes]
    return [torch.randn(shape, device=device()).relu().contiguous(memory_format=layout) for shape in shapes]


def obvious_loss(teacher: list[Tensor], student: list[Tensor]) -> Tensor:
    """Every distance, weighted alike."""
    squares = [(a**2, b**2) for a, b in zip(teacher, student, strict=True)]
    spatial = [obvious.spatial_distance(a, b) for a, b in squares]
    channel = [obvious.channel_distance(a, b) for a, b in squares[:-1]]
    return torch.stack(spatial + channel).sum()


def our_loss(teacher: list[Tensor], student: list[Tensor]) -> Tensor:
    """The same."""
    differences = [difference_of_squares(a, b) for a, b in zip(teacher, student, strict=True)]
    spatial = [spatial_cube_distance(difference, obvious.POOL_SIZES) for difference in differences]
    channel = [channel_cube_distance(difference) for difference in differences[:-1]]
    return torch.stack(spatial + channel).sum()


def main() -> None:
    """Check, time, report."""
    options = parser(__doc__.splitlines()[0])
    options.add_argument("--crop", type=int, default=512)
    options.add_argument("--batch", type=int, default=2)
    options = options.parse_args()
    rows = []
    for name, layout in LAYOUTS.items():
        torch.manual_seed(0)
        teacher = make_maps(options.crop, options.batch, layout)
        student = [map_.requires_grad_() for map_ in make_maps(options.crop, options.batch, layout)]

        def run(loss, teacher=teacher, student=student) -> Tensor:
            for map_ in student:
                map_.grad = None
            value = loss(teacher, student)
            value.backward()
            return value

        # Against float64, since the stock norm of a large map in float32 is off by 1e-4 itself.
        exact_student = [map_.detach().double().requires_grad_() for map_ in student]
        exact = obvious_loss([map_.double() for map_ in teacher], exact_student)
        exact.backward()
        difference = check("value", abs(float(run(our_loss).detach().double() / exact.detach()) - 1), 1e-5)
        for ours, expected in zip(student, exact_student, strict=True):
            check("gradient", relative_difference(ours.grad, expected.grad), 1e-4)
        del exact_student, exact
        subject = f"{name}, {options.batch} crops of {options.crop}"
        rows.append(
            compare(
                subject,
                lambda run=run: run(obvious_loss),
                lambda run=run: run(our_loss),
                repeats=options.repeats,
                difference=difference,
            )
        )
    report("pooled_cube", options.out, rows)


if __name__ == "__main__":
    main()
