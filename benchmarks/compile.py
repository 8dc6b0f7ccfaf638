"""What --compile changes: an RCIL iteration compiled against the same one as it is, and how long compiling takes.

python -m benchmarks.compile                                                    # a small body
python -m benchmarks.compile --backbone resnet101 --crop 512 --batch 24         # the paper's size, for a GPU
"""

import torch

from benchmarks.harness import check, compare, device, parser, report, seconds
from benchmarks.networks import BODIES, make_batch, make_pair, our_iteration
from config import ModelConfig


def main() -> None:
    """Check, time, report."""
    options = parser(__doc__.splitlines()[0])
    options.add_argument("--backbone", choices=BODIES, default="resnet26")
    options.add_argument("--crop", type=int, default=256)
    options.add_argument("--batch", type=int, default=2)
    options = options.parse_args()
    # Without random channel weights, so that both compute the same.
    config = ModelConfig(backbone=options.backbone, no_pretrained=True, drop_path=False, **BODIES[options.backbone])
    batch = make_batch(options.crop, options.batch)
    iterations = []
    for compiled in (False, True):
        student, teacher = make_pair(config)
        if compiled:
            student.compile()
            teacher.compile()
        iterations.append(our_iteration(student, teacher, batch))
    eager, compiled = iterations
    expected, found = {}, {}
    seconds(lambda: expected.update(eager()))
    compiling = seconds(lambda: found.update(compiled()))
    allowed = 1e-4 if device().type == "cpu" else 3e-2
    totals = [torch.stack([value.detach() for value in terms.values()]).sum() for terms in (found, expected)]
    difference = check("loss", float((totals[0] / totals[1] - 1).abs()), allowed)
    subject = f"{options.backbone}, {options.batch} x {options.crop}"
    row = compare(subject, eager, compiled, repeats=options.repeats, warmup=2, difference=difference)
    report("compile", options.out, [row], seconds_of_the_first_iteration_compiled=compiling)


if __name__ == "__main__":
    main()
