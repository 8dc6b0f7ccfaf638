"""The worked examples of the pages, applied to a copy of the tree."""

import re
import shutil
from pathlib import Path

ROOT = Path(__file__).parents[1]


def blocks(text: str, kind: str) -> list[str]:
    """The blocks of a page in one language."""
    return re.findall(rf"```{kind}\n(.*?)```", text, re.DOTALL)


def copy_of_the_tree(folder: Path, part: str) -> Path:
    """The checkout as links, but for the package `part`, which may be changed, and for data sets and results."""

    def folders(parent: str, names: list[str]) -> set[str]:
        return {name for name in names if Path(parent, name).is_dir()}

    for path in ROOT.iterdir():
        if path.name in (part, "data"):
            shutil.copytree(path, folder / path.name, ignore=folders)
        elif path.suffix == ".py":
            shutil.copy2(path, folder)  # a link would put the real tree on the path
        elif any(path.glob("*.py")) and path.name[0] != ".":
            (folder / path.name).symlink_to(path)
    return folder


def change(path: Path, line: str, entry: str, end: str) -> None:
    """The import and the entry of a page in an __init__.py, the latter before the `end` of its table."""
    before, after = path.read_text().split(end, 1)
    path.write_text(before.replace("\nfrom ", f"\n{line}from ", 1) + f"\n{entry.rstrip()}{end}{after}")


def tree_with_the_method(folder: Path) -> Path:
    """A copy of the tree with the method HOLD of docs/ADDING_A_METHOD.md and its test."""
    method, line, entry, test = blocks((ROOT / "docs" / "ADDING_A_METHOD.md").read_text(), "python")
    copy_of_the_tree(folder, "methods")
    (folder / "methods" / "hold.py").write_text(method)
    (folder / "test_hold.py").write_text(test)
    change(folder / "methods" / "__init__.py", line, entry, "\n    }\n)")
    return folder
