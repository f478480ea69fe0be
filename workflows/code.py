"""The code behind each command, so that a stage of dvc.yaml depends on the code it runs and on nothing else.

`python -m workflows.code` writes results/code/PROGRAM-COMMAND.txt, which stages depend on: the files behind a command,
each with its MD5 without comments and docstrings. These are the modules that define the names used by the command's
function, and, in turn, by these modules; names are followed through the `__init__` of packages.
"""

import ast
import hashlib
import importlib.util
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCES = {path.name: path for path in sorted(ROOT.glob("packages/*/src/*")) if (path / "__init__.py").exists()}
"""The folder of each package of this repository."""
OUT = Path("results/code")
STUDIES = "Studies"
"""The class whose methods `study` and `report` are the commands that run the studies and reports it lists."""
NO_TRACE = {
    "commands": "the command line; of a program's own commands, the function of the command counts",
    "cli": "the table of commands",
    "demo": "is no stage",
    "download": "what it fetches is compared with checksums",
    "errors": "says what is wrong, and ends a stage",
    "files": "puts outputs where they belong, whole or not at all",
    "outputs": "as files",
    "progress": "shows how far a stage is",
    "reading": "as errors",
    "rescue": "keeps what was measured before a stage failed",
    "tracking": "tells MLflow",
}
"""Modules and folders, as `room` names them, that have no effect on the outputs of stages, with the reason. No stage
depends on them."""


def behind(program: str, command: str) -> dict[str, str]:
    """MD5 of the entry points of a command, such as `deq-flow train`, and of each file behind it, by name."""
    starts = entries(program)[command]
    found: set[str] = set()
    waiting = [module for start in starts for module in used(*start)]
    while waiting:
        module = waiting.pop()
        if module not in found and room(module) not in NO_TRACE:
            found.add(module)
            waiting += used(module)
    files = {file for module in found for file in {source(module), *beside(module)} if file is not None}
    done = {start: "\n".join(stripped(ast.unparse(part)) for part in parts(*start)) for start in starts}
    said = {f"{source(module)}:{name}": md5(text.encode()) for (module, name), text in done.items()}
    said |= {str(file): digest(file) for file in sorted(files)}
    return {name.removeprefix(f"{ROOT}/"): found for name, found in said.items()}


@cache
def entries(program: str) -> Mapping[str, list[tuple[str, str]]]:
    """Entry points of a program's commands, as modules and names in them, by the words of the command.

    Commands are those in COMMANDS, and for `study` and `report` also each study and report in STUDIES.
    """
    package = program.replace("-", "_")
    commands: Mapping[str, Sequence[str]] = ast.literal_eval(value(f"{package}.cli", "COMMANDS"))
    found = {name: [(module, name.replace("-", "_"))] for module, names in commands.items() for name in names}
    for module in commands:
        if STUDIES not in bindings(module):
            continue
        call = value(module, "STUDIES")
        given = {keyword.arg: keyword.value for keyword in call.keywords} if isinstance(call, ast.Call) else {}
        for command, names in (("study", "stages"), ("report", "reports")):
            runner = (next(iter(bindings(module)[STUDIES]))[0], f"{STUDIES}.{command}")
            for name, place in ast.literal_eval(given[names]).items():
                found[f"{command} {name}"] = [runner, tuple(place.split(":"))]
    return found


def value(module: str, name: str) -> ast.expr:
    """The expression that a module assigns to a name."""
    (node,) = [node for node in parts(module, name) if isinstance(node, ast.Assign | ast.AnnAssign)]
    assert node.value is not None
    return node.value


def programs() -> list[str]:
    """The programs of the packages that have commands."""
    return [package.replace("_", "-") for package in SOURCES if source(f"{package}.cli") is not None]


def room(module: str) -> str:
    """The folder or module, below its package or below deq_core.experiment, that a module belongs to."""
    names = module.removeprefix("deq_core.experiment.").split(".")
    return names[0] if module.startswith("deq_core.experiment.") else names[min(1, len(names) - 1)]


@cache
def source(module: str) -> Path | None:
    """The file of a module of this repository."""
    package, *names = module.split(".")
    if package not in SOURCES:
        return None
    place = SOURCES[package].joinpath(*names)
    return next((file for file in (place / "__init__.py", place.with_suffix(".py")) if file.exists()), None)


def beside(module: str) -> list[Path]:
    """Data files in the folder of a module, except backup and lock files of editors."""
    file = source(module)
    folder = [] if file is None else file.parent.glob("[!.#]*[!~]")
    return [path for path in folder if path.is_file() and path.suffix not in (".py", ".pyc", ".typed")]


@cache
def tree(module: str) -> ast.Module:
    """The syntax tree of a module."""
    file = source(module)
    if file is None:
        raise FileNotFoundError(f"{module}: no module of this repository")
    return ast.parse(file.read_bytes(), str(file))


@cache
def digest(file: Path) -> str:
    """The MD5 of a file's content; for Python without comments and docstrings."""
    content = file.read_bytes()
    return md5(stripped(content, str(file)).encode() if file.suffix == ".py" else content)


def md5(content: bytes) -> str:
    """The MD5, as DVC names files."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def stripped(text: str | bytes, name: str = "") -> str:
    """Code without comments, docstrings and other string statements."""
    return ast.unparse(_WithoutText().visit(ast.parse(text, name)))


class _WithoutText(ast.NodeTransformer):
    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return ast.Pass() if text else node


def parts(module: str, name: str) -> list[ast.AST]:
    """The definition of `name` in a module and all definitions it uses there; without `name`, the whole module."""
    if not name:
        return [tree(module)]
    defined: dict[str, ast.AST] = {}
    for node in tree(module).body:
        match node:
            case ast.FunctionDef() | ast.ClassDef():
                defined[node.name] = node
                methods = [inner for inner in node.body if isinstance(inner, ast.FunctionDef)]
                defined |= {f"{node.name}.{method.name}": method for method in methods}
            case ast.Assign() | ast.AnnAssign():
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                defined |= {ast.unparse(target): node for target in targets}
    found: dict[str, ast.AST] = {}
    waiting = [name]
    while waiting:
        name = waiting.pop()
        if name in defined and name not in found:
            found[name] = defined[name]
            waiting += [chain[0] for chain in chains(defined[name])]
    return list(found.values())


@cache
def used(module: str, function: str = "") -> frozenset[str]:
    """The modules that define the imported names which a module, or a function of it, uses."""
    bound = bindings(module)
    named = [chain for part in parts(module, function) for chain in chains(part) if chain[0] in bound]
    if not function:  # unused imports count too, since some are there for their side effects
        named += [[name] for name in bound.keys() - {chain[0] for chain in named}]
    origins = ((origin, chain[1:]) for chain in named for origin in bound[chain[0]])
    return frozenset(found for origin, rest in origins for found in defining(*origin, *rest) if found != module)


@cache
def bindings(module: str) -> Mapping[str, set[tuple[str, ...]]]:
    """The imported names of a module, each with its origins: a module, and the name in it if there is one."""
    file = source(module)
    package = module if file is not None and file.name == "__init__.py" else module.rpartition(".")[0]
    bound = defaultdict(set)
    for node in ast.walk(tree(module)):
        match node:
            case ast.Import():
                for name in node.names:
                    first = name.name.partition(".")[0]
                    bound[name.asname or first].add((name.name if name.asname else first,))
            case ast.ImportFrom():
                origin = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
                for name in node.names:
                    bound[name.asname or name.name].add((origin, name.name))
    return {name: origins for name, found in bound.items() if (origins := {one for one in found if source(one[0])})}


def chains(part: ast.AST) -> Iterator[list[str]]:
    """The names in a piece of code, with what is asked of each: `deq.delta.to_delta` is [deq, delta, to_delta]."""
    waiting: list[ast.AST] = [part]
    while waiting:
        node, attributes = waiting.pop(), []
        while isinstance(node, ast.Attribute):
            attributes.insert(0, node.attr)
            node = node.value
        if isinstance(node, ast.Name):
            yield [node.id, *attributes]
        else:
            waiting += ast.iter_child_nodes(node)


def defining(module: str, *names: str) -> set[str]:
    """The module that defines the first of `names` in `module`, followed through the imports of packages."""
    file = source(module)
    if file is None:
        return set()
    if file.name == "__init__.py" and names:
        if source(f"{module}.{names[0]}") is not None:
            return defining(f"{module}.{names[0]}", *names[1:])
        if names[0] in bindings(module):
            return {found for origin in bindings(module)[names[0]] for found in defining(*origin, *names[1:])}
    return {module}


def write(out: Path) -> None:
    """Writes a file for each command into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    for program in programs():
        for command in entries(program):
            lines = [f"{md5}  {name}\n" for name, md5 in behind(program, command).items()]
            (out / f"{'-'.join([program, *command.split()])}.txt").write_text("".join(lines))


def main(arguments: Sequence[str]) -> int:
    """Writes the files, or prints a syntax error in one line."""
    try:
        write(OUT)
    except SyntaxError as error:
        print(f"{error.filename}:{error.lineno}: {error.msg}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
