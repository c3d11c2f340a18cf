"""The size of the house: `python tests/benchmarks/house.py [FOLDER ...]`, a checkout's each.

Packages, files, lines and functions of the package, without training, which is not installed.
Options name further files to leave out: `--without backends/voxtral.py`.
"""

from __future__ import annotations

import argparse
import ast
from pathlib import Path
from statistics import median, quantiles

AWAY = ("training",)


def measured(checkout: Path, without: list[str]) -> dict[str, object]:
    """What there is in the package of a checkout."""
    root = checkout / "speechprune_cli"
    files = [
        path
        for path in sorted(root.rglob("*.py"))
        if path.relative_to(root).parts[0] not in AWAY
        and str(path.relative_to(root)) not in without
    ]
    lengths, documented, public = [], 0, 0
    for path in files:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lengths.append((node.end_lineno or node.lineno) - node.lineno + 1)
                if not node.name.startswith("_"):
                    public += 1
                    documented += ast.get_docstring(node) is not None
    return {
        "packages": len({path.parent for path in files}),
        "files": len(files),
        "lines": sum(len(path.read_text("utf-8").splitlines()) for path in files),
        "longest file": max(len(path.read_text("utf-8").splitlines()) for path in files),
        "functions": len(lengths),
        "median lines": median(lengths),
        "90th percentile": round(quantiles(lengths, n=10)[-1]),
        "longest": max(lengths),
        "documented": f"{100 * documented / public:.0f}%",
    }


def main() -> None:
    """Print a column for each checkout."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="*", type=Path, default=[Path()])
    parser.add_argument("--without", action="append", default=[])
    given = parser.parse_args()
    columns = [measured(folder, given.without) for folder in given.folders]
    for name in columns[0]:
        print(f"{name:16}", *(f"{column[name]!s:>10}" for column in columns))


if __name__ == "__main__":
    main()
