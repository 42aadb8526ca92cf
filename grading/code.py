"""Source files of a submission: parsed, and never run. Whether code is right cannot be seen without running it."""

import ast
import re
import sys
import warnings
from collections.abc import Iterator

# Functions that the handout has students write, by their names; others may do nothing.
ASKED = re.compile(
    "forward|backward|optimstep|encode|decode|reparam|sample|loss|training|valid|generat|main", re.IGNORECASE
)
MARK = re.compile("todo|your code|你的代码|补全", re.IGNORECASE)
DEEPEST = 200  # brackets in brackets: Python's parser can overflow its stack at some thousands


def look_at_code(content: bytes) -> tuple[str, bool | None]:
    """What was found in a source file, and whether it is as asked; None: for the teacher to read.

    Not as asked is a file without code, or one with a function that the handout asks for and that does nothing.
    """
    if b"\0" in content:
        return "no text", False
    if _depth(content) > DEEPEST:
        return f"brackets more than {DEEPEST} deep, so not parsed", None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the parser's, on escape sequences for example
            tree = ast.parse(content)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        where = f"line {error.lineno}: {error.msg}" if isinstance(error, SyntaxError) else str(error)
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        return f"not parsed by Python {version} ({where}): a mistake, or newer syntax", None
    if all(_does_nothing(statement) for statement in tree.body):
        return "no code in it", False
    functions = list(_functions(tree))
    gaps = sorted(name for name, empty in functions if empty and ASKED.search(name.rpartition(".")[2]))
    if gaps:
        return f"gaps as they were handed out: {_few(gaps)}", False
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    only_definitions = all(isinstance(node, DEFINITIONS) or _does_nothing(node) for node in tree.body)
    if (classes or functions) and only_definitions and all(empty for _, empty in functions):
        return "nothing but gaps", False
    lines = content.decode(errors="replace").splitlines()
    marks = [str(number) for number, line in enumerate(lines, 1) if MARK.search(line.partition("#")[2])]
    marked = f"; marks of gaps in line {_few(marks)}" if marks else ""
    return f"{len(lines)} lines, not run: read them yourself{marked}", None


DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)


def _few(words: list[str]) -> str:
    return ", ".join(words[:5]) + (", ..." if len(words) > 5 else "")


def _depth(content: bytes) -> int:
    """How deep brackets are in each other, at most: those in strings and comments are counted as well."""
    depth = deepest = 0
    for byte in content:
        if byte in b"([{":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b")]}":
            depth = max(0, depth - 1)
    return deepest


def _does_nothing(statement: ast.stmt) -> bool:
    """Whether a statement is pass, a docstring or another constant, None for a result, or says what is not there."""
    if isinstance(statement, (ast.Expr, ast.Return, ast.Assign, ast.AnnAssign)):
        value = statement.value
        return isinstance(value, ast.Constant) if isinstance(statement, ast.Expr) else _is_none(value)
    if isinstance(statement, ast.Raise):
        raised = statement.exc.func if isinstance(statement.exc, ast.Call) else statement.exc
        return isinstance(raised, ast.Name) and raised.id == "NotImplementedError"
    return isinstance(statement, ast.Pass)


def _is_none(value: ast.expr | None) -> bool:
    return value is None or (isinstance(value, ast.Constant) and value.value in (None, ...))


def _functions(tree: ast.Module) -> Iterator[tuple[str, bool]]:
    """The name of each function, as in Linear.backward, and whether it does nothing.

    A base class leaves its methods to the classes that are derived from it, and so does an abstract method.
    """
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    derived_from = {base.id for node in classes for base in node.bases if isinstance(base, ast.Name)}
    left: list[tuple[str, bool, ast.AST]] = [("", False, tree)]
    while left:  # and not by recursion, since code may be deep
        prefix, is_base, parent = left.pop()
        for node in ast.iter_child_nodes(parent):
            if isinstance(node, ast.ClassDef):
                base = node.name in derived_from or node.name.lower() in ("node", "basenode")
                left.append((f"{prefix}{node.name}.", base, node))
            elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                empty = all(_does_nothing(statement) for statement in node.body)
                abstract = any(isinstance(d, ast.Name) and "abstract" in d.id for d in node.decorator_list)
                yield f"{prefix}{node.name}", empty and not is_base and not abstract
                left.append((f"{prefix}{node.name}.", False, node))
            else:
                left.append((prefix, is_base, node))
