"""The kernels of the pooled cube, compiled for cards that need not be there: registers, shared memory, spilled bytes.

    python -m benchmarks.kernel_resources

A program that needs more shared memory than a card has does not start there, and spilled registers make it slow.
"""

import re
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path
from typing import NamedTuple

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from benchmarks.harness import parser, report
from methods import cube_kernel

ARCHITECTURES = {"A100": 80, "RTX 3090": 86, "RTX 4090": 89, "H100": 90}
TYPES = {"squares": "*fp32", "weights": "*fp32", "sizes": "*i32"}
NUMBERS = ("count", "channels", "height", "width", "across")
SIDES = (16, 32, 64, 128)
"""Of maps; each is divided in another way."""


class Resources(NamedTuple):
    """Registers and spilled bytes of a thread, bytes of shared memory of a program."""

    registers: int
    spilled: int
    shared: int


def compiled(kernel: triton.JITFunction, tile: cube_kernel.Tile, architecture: int, dtype: str) -> Resources:
    """What `kernel` needs for maps of `dtype`, as bf16."""
    types = {name: TYPES.get(name, "i32" if name in NUMBERS else f"*{dtype}") for name in kernel.arg_names}
    constants = dict(zip(kernel.arg_names[-4:], [*tile, tl.bfloat16], strict=True))
    source = ASTSource(
        fn=kernel,
        signature=types | dict.fromkeys(constants, "constexpr"),
        constexprs={(kernel.arg_names.index(name),): value for name, value in constants.items()},
    )
    options = {"num_warps": cube_kernel.warps(tile)}
    made = triton.compile(source, target=GPUTarget("cuda", architecture, 32), options=options)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(made.asm["cubin"])
        file.flush()
        tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
        said = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    registers, spilled = map(int, re.search(r"REG:(\d+) STACK:(\d+)", said).groups())
    return Resources(registers, spilled, made.metadata.shared)


def main() -> None:
    """Print a table, and write it."""
    options = parser(__doc__.splitlines()[0])
    options.add_argument("--cards", nargs="+", choices=ARCHITECTURES, default=[*ARCHITECTURES])
    options.add_argument("--dtypes", nargs="+", choices=("bf16", "fp32"), default=["bf16", "fp32"])
    options = options.parse_args()
    if cube_kernel.INTERPRETED:
        sys.exit("kernels for the interpreter cannot be compiled: unset TRITON_INTERPRET")
    kernels = {
        "value": (cube_kernel._squares_kernel, cube_kernel.squares_tiles),
        "gradient": (cube_kernel._gradient_kernel, cube_kernel.gradient_tiles),
    }
    rows = {}
    for card, (name, (kernel, tiles)), dtype, side in product(options.cards, kernels.items(), options.dtypes, SIDES):
        of_map = compiled(kernel, tiles(side, side)[0], ARCHITECTURES[card], dtype)
        rows[f"{card}, {name}, {dtype}, maps of {side}"] = of_map
        print(f"| {card}, {name}, {dtype}, maps of {side} | {' | '.join(map(str, of_map))} |")
    report("kernel_resources", options.out, [], heads=Resources._fields, table=rows)


if __name__ == "__main__":
    sys.exit(main())
