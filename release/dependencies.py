"""Dependencies of the packages, from their pyproject.toml and the metadata of installed distributions."""

import tomllib
from collections.abc import Iterable, Mapping
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]

STATED: Mapping[str, str] = {
    "conda-inject": "MIT",
    "editables": "MIT",
    "grandalf": "GPLv2 or EPLv1",
    "huey": "MIT",
    "python-dateutil": "Apache-2.0 OR BSD-3-Clause",
    "skops": "MIT",
    "snakemake-interface-common": "MIT",
    "snakemake-interface-logger-plugins": "MIT",
    "snakemake-interface-report-plugins": "MIT",
    "snakemake-interface-scheduler-plugins": "MIT",
    "snakemake-interface-storage-plugins": "MIT",
}
"""Licences, read from their texts, of packages whose metadata have none, or not a clear one."""


def project(name: str) -> Mapping[str, Any]:
    """The table `project` of one of the packages, such as deq-flow; empty for other distributions."""
    path = ROOT / "packages" / name / "pyproject.toml"
    return tomllib.loads(path.read_text())["project"] if path.is_file() else {}


def required(name: str, extra: str = "") -> list[Requirement]:
    """Requirements of a distribution on this platform, or those that an extra adds."""
    if own := project(name):
        return [Requirement(one) for one in (own["optional-dependencies"][extra] if extra else own["dependencies"])]
    asked = [Requirement(one) for one in distribution(name).requires or ()]
    plain = [one for one in asked if one.marker is None or one.marker.evaluate({"extra": ""})]
    if not extra:
        return plain
    return [one for one in asked if one not in plain and one.marker and one.marker.evaluate({"extra": extra})]


def closure(requirements: Iterable[str]) -> dict[str, list[str]]:
    """Transitive closure of some requirements, including themselves: {name: names of its requirements}, sorted.

    Raises:
        PackageNotFoundError: a requirement is not installed.
    """
    waiting = [Requirement(one) for one in requirements]
    seen: set[tuple[str, str]] = set()
    found: dict[str, set[str]] = {}
    while waiting:
        one = waiting.pop()
        name = canonicalize_name(one.name)
        for extra in ("", *one.extras):
            if (name, extra) not in seen:
                seen.add((name, extra))
                asked = required(name, extra)
                found.setdefault(name, set()).update(canonicalize_name(needed.name) for needed in asked)
                waiting += asked
    return {name: sorted(found[name]) for name in sorted(found)}


def licence(name: str) -> str:
    """The licence of an installed distribution, an SPDX expression if its metadata have one.

    Raises:
        ValueError: neither its metadata nor STATED have a licence.
    """
    if name in STATED:
        return STATED[name]
    metadata = distribution(name).metadata
    classifiers = [one.rpartition(" :: ")[2] for one in metadata.get_all("Classifier", []) if one.startswith("License")]
    (expression, *_), (short, *_) = (metadata.get_all(key, [""]) for key in ("License-Expression", "License"))
    if len(short) > 40 or "\n" in short:
        short = ""
    told = expression or short or ", ".join(classifiers)
    if not told:
        raise ValueError(
            f"{name}: expected a licence in its metadata, found none; read its text and put it into STATED"
        )
    return told
