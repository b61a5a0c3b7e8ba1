"""The rules that the engine's source keeps, as functions from files to complaints.

Each takes the folder of a package and returns a list of sentences, empty if the rule is kept. So one test can hold the
real package against a rule, and another show on a wrong package that the rule can fail.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

MOST_FILE_LINES = 300
MOST_FUNCTION_LINES = 50
MOST_FUNCTION_LINES_P90 = 30
MOST_ROAD_LINES = 6500
"""About one xv6, in lines of code: blank lines, comments and docstrings are for the reader, and don't count."""
ABOVE_THE_ENGINE = ("__main__.py", "cli", "compose", "daemon", "lab")
"""What isn't counted as the road from Dockerfile to process."""

HOT = (
    "__init__.py __main__.py values.py errors.py trees.py "
    "documents.py paths.py step.py reference.py engine.py images/store.py "
    "cli linux rootfs isolation runtime"
).split()
"""Modules and packages on the road of `minicontainer run`: what they import, every start pays for."""
CHEAP = set("__future__ _json _sha2 _sha256 ctypes errno fcntl hashlib os select stat struct sys time".split())
"""What hot modules may import when they are imported themselves."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """One source file, parsed."""

    name: str
    """Relative to the package: `runtime/plan.py`."""
    text: str
    tree: ast.Module

    @property
    def lines(self) -> int:
        """How long the file is, all told."""
        return len(self.text.splitlines())

    def code_lines(self) -> int:
        """Lines that hold code: no blank ones, no comments, no docstrings."""
        strings = {
            line
            for node in ast.walk(self.tree)
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
            for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
        }
        rows = enumerate(self.text.splitlines(), start=1)
        return sum(
            1 for number, row in rows if number not in strings and row.strip() and not row.strip().startswith("#")
        )

    def functions(self) -> list[Function]:
        """Every function and method in it, nested ones too."""
        return [node for node in ast.walk(self.tree) if isinstance(node, Function)]


def modules(package: Path) -> list[Module]:
    """Every module of a package, by name."""
    return [
        Module(str(path.relative_to(package)), text, ast.parse(text, str(path)))
        for path in sorted(package.rglob("*.py"))
        for text in [path.read_text(encoding="utf-8")]
    ]


def length(function: Function) -> int:
    """Lines from `def` to the end of the body."""
    return (function.end_lineno or function.lineno) - function.lineno + 1


def percentile(values: list[int], share: float) -> int:
    """The smallest of `values` that at least `share` of them don't exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0


def road_lines(package: Path) -> int:
    """Lines of code of the engine: the road from Dockerfile to process."""
    return sum(module.code_lines() for module in modules(package) if Path(module.name).parts[0] not in ABOVE_THE_ENGINE)


def size_of_files(package: Path) -> list[str]:
    """A file is a concept, and fits into a head."""
    return [
        f"{m.name} has {m.lines} lines, {MOST_FILE_LINES} at most"
        for m in modules(package)
        if m.lines > MOST_FILE_LINES
    ]


def size_of_functions(package: Path) -> list[str]:
    """A function fits on a screen, and most are much shorter."""
    sizes = [(length(function), f"{m.name}: {function.name}") for m in modules(package) for function in m.functions()]
    complaints = [
        f"{name} has {size} lines, {MOST_FUNCTION_LINES} at most" for size, name in sizes if size > MOST_FUNCTION_LINES
    ]
    p90 = percentile([size for size, _ in sizes], 0.9)
    if p90 > MOST_FUNCTION_LINES_P90:
        longest = ", ".join(f"{name} ({size})" for size, name in sorted(sizes, reverse=True)[:10])
        complaints.append(f"p90 of functions is {p90} lines, {MOST_FUNCTION_LINES_P90} at most; the longest: {longest}")
    return complaints


def size_of_road(package: Path) -> list[str]:
    """The whole engine can be read in a weekend."""
    lines = road_lines(package)
    return [f"the engine has {lines} lines of code, {MOST_ROAD_LINES} at most"] if lines > MOST_ROAD_LINES else []


def docstrings(package: Path) -> list[str]:
    """Every module says its layer; every public class and function says what it is.

    A method is excused if it has one statement, or if a class of ours that it overrides documents it.
    """
    found = modules(package)
    classes = {node.name: node for m in found for node in ast.walk(m.tree) if isinstance(node, ast.ClassDef)}
    complaints = []
    for module in found:
        text = ast.get_docstring(module.tree) or ""
        if not text:
            complaints.append(f"{module.name} has no docstring")
        elif "Layer: " not in text and not module.name.endswith("__init__.py"):
            complaints.append(f"{module.name}: its docstring doesn't say its layer (Layer: …)")
        for node in module.tree.body:
            if (
                isinstance(node, (*Function.__args__, ast.ClassDef))
                and is_public(node.name)
                and not ast.get_docstring(node)
            ):
                complaints.append(f"{module.name}: {node.name} has no docstring")
            if isinstance(node, ast.ClassDef) and is_public(node.name):
                complaints += undocumented_methods(module, node, classes)
    return complaints


def undocumented_methods(module: Module, cls: ast.ClassDef, classes: dict[str, ast.ClassDef]) -> list[str]:
    """Complaints about the methods of one class."""
    return [
        f"{module.name}: {cls.name}.{node.name} has no docstring"
        for node in cls.body
        if isinstance(node, Function)
        and is_public(node.name)
        and len(node.body) > 1
        and not is_documented(node.name, cls, classes)
    ]


def is_documented(method: str, cls: ast.ClassDef, classes: dict[str, ast.ClassDef]) -> bool:
    """Has the method a docstring in its class, or in one that this derives from?"""
    for node in cls.body:
        if isinstance(node, Function) and node.name == method and ast.get_docstring(node):
            return True
    bases = [classes[base.id] for base in cls.bases if isinstance(base, ast.Name) and base.id in classes]
    return any(is_documented(method, base, classes) for base in bases if base is not cls)


def is_public(name: str) -> bool:
    """Is this a name for others to use?"""
    return not name.startswith("_")


def exports(package: Path) -> list[str]:
    """A package that offers names lists them in `__all__`, each once, and has them."""
    complaints = []
    for module in modules(package):
        if not module.name.endswith("__init__.py"):
            continue
        offered = defined_names(module.tree)
        listed = listed_names(module.tree)
        if listed is None:
            if any(is_public(name) for name in offered):
                complaints.append(f"{module.name} offers names and has no __all__")
            continue
        complaints += [
            f"{module.name}: __all__ names {name}, which isn't there" for name in listed if name not in offered
        ]
        complaints += [
            f"{module.name}: __all__ names {name} twice" for name in sorted(set(listed)) if listed.count(name) > 1
        ]
    return complaints


def defined_names(tree: ast.Module) -> set[str]:
    """What a module's top level imports or defines, imports for type checkers too (PEP 562 serves those late)."""
    names: set[str] = set()
    for node in [
        *tree.body,
        *(inner for outer in tree.body if isinstance(outer, ast.If | ast.Try) for inner in outer.body),
    ]:
        if isinstance(node, (*Function.__args__, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom) and getattr(node, "module", "") != "__future__":
            names |= {alias.asname or alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names - {"TYPE_CHECKING"}


def listed_names(tree: ast.Module) -> list[str] | None:
    """The content of `__all__`, None if there is none."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            return list(ast.literal_eval(node.value))
    return None


def nothing_is_a_stub(package: Path) -> list[str]:
    """Only the abstract step may say NotImplementedError: everything else that is there works."""
    return [
        f"{module.name}:{node.lineno} says NotImplementedError"
        for module in modules(package)
        if module.name != "step.py"
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Name) and node.id == "NotImplementedError"
    ]


def hot_imports(package: Path) -> list[str]:
    """Modules on the road of a start import, when they are imported, only what is cheap."""
    complaints = []
    for module in modules(package):
        if not any(module.name == hot or module.name.startswith(f"{hot}/") for hot in HOT):
            continue
        for name, line in top_imports(module.tree.body):
            if name not in CHEAP or (name == "ctypes" and not module.name.startswith("linux/")):
                complaints.append(f"{module.name}:{line} imports {name}, which every start would pay for")
    return complaints


def top_imports(body: list[ast.stmt]) -> list[tuple[str, int]]:
    """The foreign packages that executing `body` imports, with their lines. What type checkers see isn't executed."""
    found = []
    for node in body:
        if isinstance(node, ast.Import):
            found += [(alias.name.split(".")[0], node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.append(((node.module or "").split(".")[0], node.lineno))
        elif isinstance(node, ast.If):
            checked = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
            found += top_imports(node.orelse if checked else [*node.body, *node.orelse])
        elif isinstance(node, ast.Try):
            found += top_imports([*node.body, *node.orelse, *node.finalbody])  # handlers: the rare case
        elif isinstance(node, ast.With | ast.For | ast.While | ast.ClassDef):
            found += top_imports(node.body)
    return found


RULES = (
    size_of_files,
    size_of_functions,
    size_of_road,
    docstrings,
    exports,
    nothing_is_a_stub,
    hot_imports,
)
