"""Chooses the profile of params.yaml: `python -m workflows.profile [NAME] [--discard-edits]`.

Profiles are in workflows/profiles/NAME.yaml, with aliases. params.yaml is one of them, written out, since with aliases
`dvc exp run --set-param` would change more than it says. Without NAME, this shows which profile it is and what was
edited since. With NAME, params.yaml becomes that profile with the same edits, or stays unchanged.
"""

import argparse
import io
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import count
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import Comment, CommentedMap, CommentedSeq
from ruamel.yaml.representer import RoundTripRepresenter

from workflows.engines import parameters, workspace

PROFILES = Path(__file__).parent / "profiles"
WIDTH = 120
ONE_LINE = 100
"""Longest mapping on one line, with its indentation; longer ones are written a key a line."""
HEAD = """\
# The numbers of the experiments of `snakemake all` and `dvc repro`. Meanings and defaults: params.py of the packages.
# From workflows/profiles/{profile}.yaml. `python -m workflows.profile` lists what was edited here since then, and
# `python -m workflows.profile NAME` puts another profile here, with the same edits.
"""


class ProfileError(ValueError):
    """params.yaml cannot become this profile without losing edits, or there is no such profile."""


class _Absent:
    def __str__(self) -> str:
        return "nothing"


ABSENT: Any = _Absent()
"""The value of a missing key."""


@dataclass(frozen=True)
class Edit:
    """A key whose value differs from the profile's, or that only one of the two has."""

    keys: tuple[str, ...]
    before: Any
    after: Any

    def __str__(self) -> str:
        return f"  {'.'.join(map(str, self.keys))}: {self.after} (was {self.before})"


def choose(name: str, file: Path, *, discard: bool = False) -> list[str]:
    """Makes `file` the profile of that name, with the edits that were in it unless `discard`; returns lines to print.

    If anything in the file would be lost (discarded edits, comments, layout), a copy is kept beside it.

    Raises:
        ProfileError: there is no such profile, or it has no place for an edit.
        parameters.ParameterError: `file`, or the profile with its edits, does not agree with the schemas.
    """
    chosen = profile(name)
    try:
        own, document = running(file)
    except (parameters.ParameterError, ProfileError):
        if not discard:
            raise
        changes, untouched = [], None
    else:
        changes, untouched = list(edits(own, document)), text(own).encode()
    if not discard:
        homeless = [edit for edit in changes if not apply(edit, chosen)]
        if homeless:
            raise ProfileError(
                "\n".join([f"{file} stays as it is: profile {name} has no place for", *map(str, homeless)])
            )
        parameters.check(chosen, f"{file} stays as it is: {name} with its edits")
    said = [f"{name} runs"]
    if changes:
        said += ["its edits are thrown away:" if discard else "with the edits of before:", *map(str, changes)]
    made = text(chosen).encode()
    if file.exists() and file.read_bytes() not in (untouched, made):
        said.append(f"{file} as it was is kept in {kept(file)}")
    beside = file.with_name(f".{file.name}.new")
    beside.write_bytes(made)
    os.replace(beside, file)
    return said


def running(file: Path) -> tuple[CommentedMap, CommentedMap]:
    """The profile that `file` names, and the content of `file`.

    Raises:
        parameters.ParameterError: `file` does not agree with the schemas.
        ProfileError: there is no such profile.
    """
    parameters.load(file)
    document = yaml().load(file)
    return profile(document["profile"]), document


def kept(file: Path) -> Path:
    """The path of a copy of `file`, which is made unless there is one."""
    names = (file.with_name(f"{file.name}.old{number or ''}") for number in count())
    place = next(path for path in names if not path.exists() or path.read_bytes() == file.read_bytes())
    place.write_bytes(file.read_bytes())
    return place


def profile(name: str) -> CommentedMap:
    """A profile as in params.yaml, with aliases and merges written out.

    Raises:
        ProfileError: there is no such profile.
    """
    known = sorted(path.stem for path in PROFILES.glob("*.yaml"))
    if name not in known:
        raise ProfileError(f"profile: expected {' or '.join(known)}, got {name!r}")
    document = written_out(yaml().load(PROFILES / f"{name}.yaml"), set())
    document.ca.comment = None  # the comment at the head of that file
    document.insert(0, "profile", name)
    return document


def written_out(value: Any, known: set[int], indent: int = 0) -> Any:
    """A copy without anchors and aliases. Comments are kept at the anchor alone."""
    if not isinstance(value, CommentedMap | CommentedSeq):
        return value
    comments = None if id(value) in known else value.ca
    known.add(id(value))
    if isinstance(value, CommentedMap):
        copy: Any = CommentedMap((key, written_out(value[key], known, indent + 2)) for key in in_order(value))
    else:
        copy = CommentedSeq(written_out(item, known, indent + 4) for item in value)
    if comments is not None:
        setattr(copy, Comment.attrib, comments)
    if value.fa.flow_style() and indent + len(str(copy).replace("'", "")) < ONE_LINE:
        copy.fa.set_flow_style()
    return copy


def in_order(mapping: CommentedMap) -> dict[str, None]:
    """Keys of a mapping: first those that it merges, then its own."""
    return dict.fromkeys([key for merged in mapping.merge for key in in_order(merged)]) | dict.fromkeys(mapping)


def edits(before: Mapping[str, Any], after: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[Edit]:
    """The differences between two mappings."""
    for key in dict.fromkeys([*before, *after]):
        old, new = before.get(key, ABSENT), after.get(key, ABSENT)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from edits(old, new, (*above, key))
        elif old != new:
            yield Edit((*above, key), old, new)


def apply(edit: Edit, document: CommentedMap) -> bool:
    """Makes an edit in another profile; returns whether that has a place for it."""
    *above, name = edit.keys
    place: Any = reduce(lambda at, key: at.get(key) if isinstance(at, dict) else None, above, document)
    if not isinstance(place, dict) or (name not in place and edit.before is not ABSENT):
        return False
    if edit.after is ABSENT:
        del place[name]
    else:
        place[name] = edit.after
    return True


def text(document: CommentedMap) -> str:
    """The text of params.yaml for a profile."""
    stream = io.StringIO()
    yaml().dump(document, stream)
    return HEAD.format(profile=document["profile"]) + stream.getvalue()


class _Representer(RoundTripRepresenter):
    """Writes null as `null` rather than as nothing."""


_Representer.add_representer(type(None), lambda self, _: self.represent_scalar("tag:yaml.org,2002:null", "null"))


def yaml() -> YAML:
    """A reader and writer that keeps comments."""
    made = YAML()
    made.Representer = _Representer
    made.width = WIDTH
    made.indent(mapping=2, sequence=4, offset=2)
    return made


def main(arguments: Sequence[str] | None = None, file: Path = parameters.PARAMS) -> int:
    """Shows the profile and its edits, or changes the profile."""
    parser = argparse.ArgumentParser(prog="python -m workflows.profile", description=str(__doc__).partition("\n")[2])
    parser.add_argument("name", nargs="?", metavar="NAME", help="the profile to run")
    parser.add_argument("--discard-edits", action="store_true", help="with NAME: start from the profile as it is")
    options = parser.parse_args(arguments)
    if options.discard_edits and options.name is None:
        parser.error("--discard-edits: name the profile to start from")
    try:
        if options.name is not None:
            workspace.check_idle()  # jobs read params.yaml when they begin
            print("\n".join(choose(options.name, file, discard=options.discard_edits)))
            return 0
        own, document = running(file)
        changes = list(edits(own, document))
    except workspace.WorkspaceError as error:
        raise SystemExit(str(error)) from None
    except (parameters.ParameterError, ProfileError, OSError) as error:
        print(error, file=sys.stderr)
        print(
            f"`python -m workflows.profile NAME --discard-edits` starts {file} anew, and keeps this one beside it",
            file=sys.stderr,
        )
        return 1
    print("\n".join([f"{document['profile']} runs, {'edited:' if changes else 'as it is'}", *map(str, changes)]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
