"""What --compile changes: an RCIL iteration compiled against the same one as it is, and how long compiling takes.

python -m benchmarks.compile                                                    # a small body
python -m benchmarks.compile --backbone resnet101 --crop 512 --batch 24         # the paper's size, for a GPU
"""

from benchmarks.harness import check, compare, device, parser, report, seconds
from benchmarks.networks import BODIES, make_batch, make_trainer, our_iteration


def main() -> None:
    """Check, time, report."""
    options = parser(__doc__.splitlines()[0])
    options.add_argument("--backbone", choices=BODIES, default="resnet26")
    options.add_argument("--crop", type=int, default=256)
    options.add_argument("--batch", type=int, default=2)
    options = options.parse_args()
    # Without random channel weights, so that both compute the same.
    words = f"--method RCIL {BODIES[options.backbone]} --no_drop_path --print_interval 1"
    batch = make_batch(options.crop, options.batch)
    eager, compiled = (our_iteration(make_trainer(words + more, batch)) for more in ("", " --compile"))
    expected, found = eager(), {}
    compiling = seconds(lambda: found.update(compiled()))
    allowed = 1e-4 if device().type == "cpu" else 3e-2
    difference = check("loss", abs(found["total"] / expected["total"] - 1), allowed)
    subject = f"{options.backbone}, {options.batch} x {options.crop}"
    row = compare(subject, eager, compiled, repeats=options.repeats, warmup=2, difference=difference)
    report("compile", options.out, [row], seconds_of_the_first_iteration_compiled=compiling)


if __name__ == "__main__":
    main()
