"""What a job asks of the machine or cluster that runs it, by the sections of params.yaml that its stage lists."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

MEMORY = {"cpu": 2000, "cuda": 16000}
"""Megabytes of main memory for each process; a job that is tried again gets as much more each time (Snakefile)."""
RUNTIME = 24 * 60
"""Minutes. A training that needs longer is tried again and resumes from its checkpoint."""


@dataclass(frozen=True)
class Resources:
    """What one job is given."""

    threads: int = 1
    """Processor cores."""
    gpu: int = 0
    mem_mb: int = MEMORY["cpu"]
    runtime: int = RUNTIME


def asked(profile: Mapping[str, Any], keys: Iterable[str], meta: Mapping[str, Any] = MappingProxyType({})) -> Resources:
    """The most that any of the sections at dotted `keys` asks for, and `meta` of the stage, which goes before them.

    A section has its `device`, which is the CPU where it says nothing, the `processes`, each with a CUDA device of its
    own, and the `threads` of each and the `workers` that read its data. Vision has them in the section's `recipe`.
    """
    found = [of_section({**section(profile, key), **meta}) for key in keys]
    return max(found, key=lambda one: (one.gpu, one.threads), default=Resources())


def section(profile: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The mapping at dotted keys; empty where there is none."""
    found: Any = profile
    for name in key.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found.get("recipe", found) if isinstance(found, Mapping) else {}


def of_section(found: Mapping[str, Any]) -> Resources:
    """What a section asks for."""
    device, processes = found.get("device", "cpu"), found.get("processes", 1)
    return Resources(
        threads=processes * (found.get("threads", 1) + found.get("workers", 0)),
        gpu=processes if device == "cuda" else 0,
        mem_mb=processes * MEMORY[device],
    )
