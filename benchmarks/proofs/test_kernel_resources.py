"""The kernels of the pooled cube compile."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")


def test_they_compile_for_cards_that_are_not_there(tmp_path: Path):
    """Within the shared memory that every program may have, and without spilled registers."""
    words = [sys.executable, "-m", "benchmarks.kernel_resources", "--cards", "A100", "--dtypes", "bf16"]
    compiler = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    words += ["--out", str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=compiler)
    rows = [line.split(" | ") for line in done.stdout.splitlines() if line.startswith("| A100")]
    assert len(rows) == 8
    for _, registers, spilled, shared in rows:
        assert 0 < int(registers) < 256 and int(spilled) == 0 and int(shared.strip(" |")) <= 48 * 1024
