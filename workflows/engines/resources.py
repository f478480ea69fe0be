"""The resources that a job asks for, from the sections of params.yaml that its stage lists."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

MEMORY = {"cpu": 2000, "cuda": 16000}
"""Megabytes of main memory for each process; each retry of a job adds as much (Snakefile)."""
RUNTIME = 24 * 60
"""Limit in minutes on a cluster. A training that needs longer is retried and resumes from its checkpoint."""


@dataclass(frozen=True)
class Resources:
    """The resources of one job."""

    threads: int = 1
    """Processor cores."""
    gpu: int = 0
    mem_mb: int = MEMORY["cpu"]
    runtime: int = RUNTIME


def asked(profile: Mapping[str, Any], keys: Iterable[str], meta: Mapping[str, Any] = MappingProxyType({})) -> Resources:
    """The maximum that the sections at dotted `keys` ask for; `meta` of the stage takes precedence over them.

    A section may have a `device` (by default the CPU), `processes`, each with a CUDA device of its own, and for each
    process its `threads` and the `workers` that read its data. In vision they are in the section's `recipe`.
    """
    found = [of_section({**section(profile, key), **meta}) for key in keys]
    return max(found, key=lambda one: (one.gpu, one.threads), default=Resources())


def section(profile: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The mapping at dotted keys, or an empty one."""
    found: Any = profile
    for name in key.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found.get("recipe", found) if isinstance(found, Mapping) else {}


def of_section(found: Mapping[str, Any]) -> Resources:
    """The resources that a section asks for."""
    device, processes = found.get("device", "cpu"), found.get("processes", 1)
    return Resources(
        threads=processes * (found.get("threads", 1) + found.get("workers", 0)),
        gpu=processes if device == "cuda" else 0,
        mem_mb=processes * MEMORY[device],
    )
