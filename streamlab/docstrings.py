"""What plugins say of themselves, read as text: nothing is imported."""

from __future__ import annotations

import ast
import importlib.util
from importlib.metadata import EntryPoint
from pathlib import Path


def first_line(point: EntryPoint, of_member: bool) -> str:
    """The first line of a module's docstring, or of what is said of one thing in it, read as text."""
    path = _file_of(point.module)
    if path is None:
        return ""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return ""
    docstring = _documented(tree, point.attr) if of_member or point.attr.isupper() else None
    if docstring is None and not of_member:
        docstring = ast.get_docstring(tree)
    return docstring.splitlines()[0] if docstring else point.value.replace(":", ".") if of_member else ""


def _documented(tree: ast.Module, name: str) -> str | None:
    """What stands in a module about a function, a class or a value of it."""
    for node, after in zip(tree.body, [*tree.body[1:], None], strict=True):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
            return ast.get_docstring(node)
        is_it = isinstance(node, ast.AnnAssign) and getattr(node.target, "id", "") == name
        if is_it and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            return str(after.value.value)
    return None


def _file_of(module: str) -> Path | None:
    """The file of a module; a stranger's packages are searched without importing them."""
    top, *rest = module.split(".")
    spec = importlib.util.find_spec(top)
    if spec is None:
        return None
    if not rest:
        return Path(spec.origin) if spec.origin else None
    for folder in spec.submodule_search_locations or ():
        for candidate in (Path(folder, *rest).with_suffix(".py"), Path(folder, *rest, "__init__.py")):
            if candidate.is_file():
                return candidate
    if top == "streamlab":
        inner = importlib.util.find_spec(module)
        return Path(inner.origin) if inner and inner.origin else None
    return None
