"""The code behind each command, so that a stage of dvc.yaml depends on what it runs and on nothing else.

`python -m workflows.code` writes results/code/PROGRAM-COMMAND.txt, which stages depend on: the files behind a command,
each with the MD5 of what it does, without comments and docstrings. These are the modules from which the command's
function takes what it names, and those from which they do in turn; a package's `__init__` only passes names on.
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
"""The class whose methods `study` and `report` are commands over the studies that it names."""
NO_TRACE = {
    "commands": "the command line; of a program's own commands, the function of the command counts",
    "cli": "the table of commands",
    "demo": "is no stage",
    "download": "what it fetches is compared with checksums",
    "errors": "says what is wrong, and ends a stage",
    "files": "puts outputs where they belong, whole or not at all",
    "output_error": "as errors",
    "progress": "shows how far a stage is",
    "reading": "as errors",
    "rescue": "keeps what was measured before a stage failed",
    "tracking": "tells MLflow",
    "written": "as files",
}
"""Rooms of packages and of deq_core.experiment that leave no trace in what a stage writes: none depends on them."""


def behind(program: str, command: str) -> dict[str, str]:
    """What `deq-flow train` runs: the MD5 of what it begins with and of each file that counts, by their names."""
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
    """What a program's commands begin with, by their words: modules and names in them.

    Commands are what its COMMANDS has; of `study` and `report` also each study and report that its STUDIES has.
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
    """What a module gives to a name."""
    (node,) = [node for node in parts(module, name) if isinstance(node, ast.Assign | ast.AnnAssign)]
    assert node.value is not None
    return node.value


def programs() -> list[str]:
    """Those of the packages that have commands."""
    return [package.replace("_", "-") for package in SOURCES if source(f"{package}.cli") is not None]


def room(module: str) -> str:
    """The folder or module below its package, or below deq_core.experiment, that a module is in."""
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
    """The data that lie beside a module; what an editor has open or backs up there is none."""
    file = source(module)
    folder = [] if file is None else file.parent.glob("[!.#]*[!~]")
    return [path for path in folder if path.is_file() and path.suffix not in (".py", ".pyc", ".typed")]


@cache
def tree(module: str) -> ast.Module:
    """What is written in a module."""
    file = source(module)
    if file is None:
        raise FileNotFoundError(f"{module}: no module of this repository")
    return ast.parse(file.read_bytes(), str(file))


@cache
def digest(file: Path) -> str:
    """The MD5 of a file's content; of Python without what does nothing."""
    content = file.read_bytes()
    return md5(stripped(content, str(file)).encode() if file.suffix == ".py" else content)


def md5(content: bytes) -> str:
    """As DVC calls files."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def stripped(text: str | bytes, name: str = "") -> str:
    """Code without comments, and without docstrings and other text that stands for itself."""
    return ast.unparse(_WithoutText().visit(ast.parse(text, name)))


class _WithoutText(ast.NodeTransformer):
    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return ast.Pass() if text else node


def parts(module: str, name: str) -> list[ast.AST]:
    """What `name` stands for in a module, and all that this names there; without `name` the whole module."""
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
    """The modules that define what a module, or a function of it, takes from others."""
    bound = bindings(module)
    named = [chain for part in parts(module, function) for chain in chains(part) if chain[0] in bound]
    if not function:  # some imports are there for what they do
        named += [[name] for name in bound.keys() - {chain[0] for chain in named}]
    origins = ((origin, chain[1:]) for chain in named for origin in bound[chain[0]])
    return frozenset(found for origin, rest in origins for found in defining(*origin, *rest) if found != module)


@cache
def bindings(module: str) -> Mapping[str, set[tuple[str, ...]]]:
    """What an imported name of a module stands for, wherever it is imported: a module and a name in it, or none."""
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
    """The module that defines the first of `names` in `module`, looked for where a package has it from."""
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
    """Writes one file a command into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    for program in programs():
        for command in entries(program):
            lines = [f"{md5}  {name}\n" for name, md5 in behind(program, command).items()]
            (out / f"{'-'.join([program, *command.split()])}.txt").write_text("".join(lines))


def main(arguments: Sequence[str]) -> int:
    """Writes the files; a mistake in the code is said in one line."""
    try:
        write(OUT)
    except SyntaxError as error:
        print(f"{error.filename}:{error.lineno}: {error.msg}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
