"""The shape of the code: imports point one way, and no function is longer than a reader's patience.

The packages stand in layers, and a file imports from the layers below its own alone.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]

# From the bottom up. Packages of one layer do not know each other; the files of one package do.
# The error that all raise, and how all read and write files, lie at the very bottom, though they live in utils.
LAYERS = [
    {"utils.errors", "utils.files"},
    {"config", "config_file", "tasks"},
    {"utils"},
    {"modules", "metrics", "dataset", "tiles"},
    {"segmentation_module"},
    {"methods"},
    {"train", "checkpoints", "argparser"},
    {"trained"},
    {"run", "segmenter"},
    {"hubconf"},
]
FREE = {"tests", "tools", "benchmarks", "scripts", "docs"}


def program_files() -> dict[str, Path]:
    """Every file of the program by its name in import statements."""
    files = {}
    for path in sorted(REPOSITORY.rglob("*.py")):
        parts = path.relative_to(REPOSITORY).with_suffix("").parts
        if parts[0] not in FREE and not parts[0].startswith("."):
            files[".".join(parts).removesuffix(".__init__")] = path
    return files


FILES = program_files()


def imported(path: Path) -> set[str]:
    """The files of the program that the one at `path` imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            # `from dataset import voc` may mean the file dataset/voc.py.
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names & FILES.keys()


def layer(file: str) -> int:
    for name in (file, file.split(".")[0]):
        for number, members in enumerate(LAYERS):
            if name in members:
                return number
    raise AssertionError(f"{file} has no layer: say in LAYERS where it belongs")


def test_imports_point_down():
    for file, path in FILES.items():
        for target in imported(path):
            same_package = file.split(".")[0] == target.split(".")[0]
            assert layer(target) < layer(file) or (same_package and layer(target) == layer(file)), (
                f"{file} imports {target}"
            )


def test_no_file_imports_itself_by_way_of_others():
    edges = {file: imported(path) - {file} for file, path in FILES.items()}
    # Importing dataset.voc runs dataset/__init__.py first, which is not an edge of the design.
    while leaves := [file for file, targets in edges.items() if not targets & edges.keys()]:
        for file in leaves:
            del edges[file]
    assert not edges, f"a circle among {sorted(edges)}"


def test_the_layers_are_those_of_the_program():
    packages = {file.split(".")[0] for file in FILES}
    assert set.union(*LAYERS) - {"utils.errors", "utils.files"} == packages


def test_who_only_asks_for_help_does_not_wait_for_torchvision():
    for file, path in FILES.items():
        for node in ast.parse(path.read_text()).body:
            names = [node.module] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert "torchvision" not in {name.split(".")[0] for name in names}, file


Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(path: Path) -> Iterator[Function]:
    """All functions and methods of a file."""
    return (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, Function))


def length(function: Function) -> int:
    """Lines, the decorators left out."""
    return function.end_lineno - function.lineno + 1


def test_no_function_is_longer_than_60_lines():
    sources = [path for path in REPOSITORY.rglob("*.py") if path.relative_to(REPOSITORY).parts[0] != "tests"]
    sources = [path for path in sources if not path.relative_to(REPOSITORY).parts[0].startswith(".")]
    assert len(sources) > 60
    assert [f"{path}: {f.name}" for path in sources for f in functions(path) if length(f) > 60] == []


def test_run_py_is_a_story():
    path = FILES["run"]
    assert len(path.read_text().splitlines()) < 220
    assert {f.name: length(f) for f in functions(path) if length(f) > 40} == {}
    excepting = {f.name for f in functions(path) if any(isinstance(node, ast.ExceptHandler) for node in ast.walk(f))}
    assert excepting == {"main"}


def test_training_takes_few_parameters():
    for function in functions(FILES["train"]):
        of_it = function.args
        names = [argument.arg for argument in (*of_it.posonlyargs, *of_it.args, *of_it.kwonlyargs)]
        assert len(names) <= 7 and not of_it.vararg and not of_it.kwarg, function.name


def test_argparse_serves_run_py_and_the_tools_alone():
    users = {
        file
        for file, path in FILES.items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import) and any(alias.name == "argparse" for alias in node.names)
    }
    assert users == {"argparser", "utils.options"}
