"""The house rules: each is a function from a notebook (or the package) to its complaints.

`test_house.py` applies every rule to every notebook, and proves that it bites by feeding it a small
offending notebook.
"""

import ast
import re
import statistics
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")  # the GPU machine has no Jupyter

ROOT = Path(__file__).parent.parent
COURSE = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
FURTHER = sorted((ROOT / "notebooks" / "further").glob("*.ipynb"))
NOTEBOOKS = [*COURSE, *FURTHER]
LAYERS = ("core", "fast", "hf", "training", "cli")  # each imports itself and those before it
IGNORED = "# NBVAL_IGNORE_OUTPUT"
OTHER_MARKERS = re.compile(r"NBVAL_(?!IGNORE_OUTPUT)\w+|PYTEST_VALIDATE\w*")
MACHINE_PATH = re.compile(
    r"(?<![\w.:/<])/(?:home|root|tmp|work|Users|mnt|opt|var|usr)\b[\w./-]*"  # a known root
    r"|(?<![\w.:/<])/(?:[\w.-]+/){2,}[\w.-]*"  # anything three levels deep
    r"|file://|\b[A-Z]:[\\/]\w+|\bat 0x[0-9a-f]{6,}"
)


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def code_cells(notebook) -> list:
    return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]


def output_text(output) -> str:
    """What a reader sees of one output, as text."""
    data = output.get("data", {})
    return output.get("text", "") + "".join(
        data.get(kind, "") for kind in ("text/plain", "text/html")
    )


def is_figure(output) -> bool:
    return any(kind.startswith("image/") for kind in output.get("data", {}))


def compared_cells(notebook) -> int:
    """Count the cells in which nbval compares more than a figure's size."""
    return sum(
        any(not is_figure(output) for output in cell.outputs)
        for cell in code_cells(notebook)
        if not cell.source.startswith(IGNORED)
    )


# -- rules for one notebook


def has_a_title(notebook, name: str) -> list[str]:
    """The number stands in the title of a chapter; going further has none."""
    first = notebook.cells[0].source if notebook.cells else ""
    number = f"{name[:2]} " if name[:2].isdigit() else ""
    good = re.match(rf"# {number}[^\W\d].*\n\n> \S.*", first)
    return [] if good else [f"{name}: the first cell is not '# {number}Title' and a '> summary'"]


def has_run(notebook, name: str) -> list[str]:
    counts = [cell.execution_count for cell in code_cells(notebook)]
    if not counts:
        return [f"{name}: no code at all"]
    return (
        []
        if counts == list(range(1, len(counts) + 1))
        else [f"{name}: not run top to bottom: {counts}"]
    )


def has_clean_outputs(notebook, name: str) -> list[str]:
    complaints = []
    for number, cell in enumerate(code_cells(notebook), 1):
        for output in cell.outputs:
            text = output_text(output)
            if output.output_type == "error":
                complaints.append(f"{name}, code cell {number}: an error stands in the output")
            if output.get("name") == "stderr" or re.search(r"\w*Warning: ", text):
                complaints.append(f"{name}, code cell {number}: a warning stands in the output")
            if MACHINE_PATH.search(text):
                path = MACHINE_PATH.search(text).group()
                complaints.append(
                    f"{name}, code cell {number}: a machine's path in the output: {path}"
                )
    return complaints


def compares_something(notebook, name: str) -> list[str]:
    return (
        [] if compared_cells(notebook) else [f"{name}: green because empty: no output is compared"]
    )


def ignores_with_a_reason(notebook, name: str) -> list[str]:
    complaints = []
    for number, cell in enumerate(code_cells(notebook), 1):
        if IGNORED[2:] in cell.source and not re.match(rf"{IGNORED}\n# \w", cell.source):
            complaints.append(f"{name}, code cell {number}: {IGNORED} is line 1, its reason line 2")
        if OTHER_MARKERS.search(cell.source) or cell.metadata.get("tags"):
            complaints.append(
                f"{name}, code cell {number}: no other marker or tag may hide outputs"
            )
    return complaints


def is_one_class(source: str) -> bool:
    """Say whether a cell is a single class, with nothing beside it but imports."""
    body = [
        node for node in ast.parse(source).body if not isinstance(node, ast.Import | ast.ImportFrom)
    ]
    return len(body) == 1 and isinstance(body[0], ast.ClassDef)


def has_short_cells(notebook, name: str) -> list[str]:
    lengths = {
        number: len(cell.source.splitlines()) for number, cell in enumerate(code_cells(notebook), 1)
    }
    sources = {number: cell.source for number, cell in enumerate(code_cells(notebook), 1)}
    complaints = [
        f"{name}, code cell {n}: {length} lines, and not one class"
        for n, length in lengths.items()
        if length > 40 and not is_one_class(sources[n])
    ]
    if lengths and statistics.median(lengths.values()) > 6:
        complaints.append(
            f"{name}: the median code cell has {statistics.median(lengths.values())} lines, over 6"
        )
    return complaints


def describes_pictures(notebook, name: str) -> list[str]:
    """Alt text for every image in the text; '*In words:* ...' right after every figure."""
    complaints = []
    for cell, following in zip(notebook.cells, [*notebook.cells[1:], None], strict=True):
        if cell.cell_type == "markdown":
            without = [alt for alt in re.findall(r"!\[(.*?)\]\(", cell.source) if not alt.strip()]
            without += [
                tag
                for tag in re.findall(r"<img\b[^>]*>", cell.source)
                if not re.search(r'alt="\s*\w', tag)
            ]
            complaints += [
                f"{name}: an image without alt text: {cell.source[:60]!r}" for _ in without
            ]
        elif cell.cell_type == "code" and any(is_figure(output) for output in cell.outputs):
            if following is None or not following.source.startswith("*In words:*"):
                complaints.append(
                    f"{name}: a figure without '*In words:*' after it: {cell.source[-60:]!r}"
                )
    return complaints


def keeps_within_bounds(notebook, name: str) -> list[str]:
    """Bound a chapter's words, code cells, ignored outputs, and share of exported code."""
    if not name[:2].isdigit():
        return []
    words = sum(len(c.source.split()) for c in notebook.cells if c.cell_type == "markdown")
    cells = [cell.source for cell in code_cells(notebook)]
    exported, total = lines_of(filter(is_exported, cells)), lines_of(cells)
    bounds = {"words": (words, 3000), "code cells": (len(cells), 60)}
    bounds["ignored outputs"] = sum(source.startswith(IGNORED) for source in cells), 2
    bounds["exported lines in 100"] = 100 * exported // max(total, 1), 49
    return [
        f"{name}: {found} {what}, over {most}"
        for what, (found, most) in bounds.items()
        if found > most
    ]


def is_exported(source: str) -> bool:
    return re.search(r"^#\|\s*export\b", source, re.MULTILINE) is not None


def lines_of(sources) -> int:
    return sum(bool(line.strip()) for source in sources for line in source.splitlines())


# -- rules for the whole house


NOTEBOOK_RULES = [
    has_a_title,
    has_run,
    has_clean_outputs,
    compares_something,
    ignores_with_a_reason,
    has_short_cells,
    describes_pictures,
    keeps_within_bounds,
]


# -- rules for the whole house


def module_of(notebook) -> str | None:
    """The module that a notebook exports to, such as "bpe" or "fast.kernels"; None if to none."""
    sources = "\n".join(cell.source for cell in code_cells(notebook))
    found = re.search(r"^#\|\s*default_exp\s+([\w.]+)", sources, re.MULTILINE)
    return found[1] if found else None


def layer_of(module: str) -> str:
    first, _, rest = module.partition(".")
    return first if first in LAYERS and rest else "core"


def imported_modules(source: str, inside: str = "") -> set[str]:
    """The modules of minigpt that some Python imports, at its top or in a function, such as "bpe".

    `inside` is the module it stands in, for relative imports; "" stands for the package itself.
    """
    plain = "\n".join(
        "" if line.lstrip().startswith(("%", "!")) else line for line in source.splitlines()
    )
    names = set()
    for node in ast.walk(ast.parse(plain)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parts = ["minigpt", *inside.split(".")[: -node.level]] if node.level else []
            base = ".".join([*parts, *([node.module] if node.module else [])])
            known = [
                alias.name
                for alias in node.names
                if (ROOT / base.replace(".", "/") / f"{alias.name}.py").is_file()
            ]
            names |= {f"{base}.{name}" for name in known} or {base}
    return {name[len("minigpt.") :] for name in names if f"{name}.".startswith("minigpt.")}


def imports_leftwards(modules: dict[str, str]) -> list[str]:
    """Each of the modules, "hf.models" -> source, imports its own layer or one before."""
    return [
        f"{module} ({layer_of(module)}) imports {used} ({layer_of(used)})"
        for module, source in modules.items()
        for used in sorted(imported_modules(source, module))
        if LAYERS.index(layer_of(used)) > LAYERS.index(layer_of(module))
    ]


def exports_from_earlier(notebooks: dict[str, nbformat.NotebookNode]) -> list[str]:
    """Chapters export imports of earlier chapters only, to a module of the chapter's name."""
    complaints, earlier = [], set()
    for name, notebook in notebooks.items():
        if (module := module_of(notebook)) is None:
            continue
        exported = "\n".join(
            cell.source for cell in code_cells(notebook) if is_exported(cell.source)
        )
        wrong = sorted(imported_modules(exported, module) - earlier)
        complaints += [
            f"{name} exports an import of {used}, not of an earlier one" for used in wrong
        ]
        if module != name[3:]:
            complaints.append(f"{name} exports to {module}; chapter and module have the same name")
        earlier.add(module)
    return complaints


def public_names(source: str) -> list[str]:
    """The public names that a module defines at top level: functions, classes, constants."""
    names = []
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.append(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found = [part for target in targets for part in ast.walk(target)]
            found = [part for part in found if isinstance(part, ast.Name)]
            names += [part.id for part in found if isinstance(part.ctx, ast.Store)]
    return [name for name in names if not name.startswith("_")]


def defined_once(modules: dict[str, str]) -> list[str]:
    """No public name is defined twice, in one module or in two."""
    home, complaints = {}, []
    for module, source in modules.items():
        for name in public_names(source):
            if name in home:
                complaints.append(f"{name} is defined in {home[name]} and again in {module}")
            home[name] = module
    return complaints
