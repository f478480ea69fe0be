"""Bills of materials in CycloneDX 1.6: the dependencies of a wheel with versions and licences."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import distribution
from pathlib import Path

from release.dependencies import licence


def write(out: Path, wheel: Path, name: str, version: str, needed: Mapping[str, Sequence[str]]) -> None:
    """Writes the bill of a wheel, which is the same for the same wheel and installed versions.

    Args:
        out: file to write.
        wheel: the wheel, whose SHA-256 is in the bill.
        name: name of the package.
        version: version of the package and its siblings.
        needed: all dependencies, including the package and its siblings, from `dependencies.closure`.
    """
    versions = {one: version if one.startswith("deq-") else distribution(one).version for one in needed}
    references = {one: f"pkg:pypi/{one}@{versions[one]}" for one in needed}

    def component(one: str) -> dict[str, object]:
        told = "MIT" if one.startswith("deq-") else licence(one)
        return {
            "type": "library",
            "bom-ref": references[one],
            "name": one,
            "version": versions[one],
            "licenses": [{"license": {"name": told}}],
            "purl": references[one],
        }

    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    bill = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {**component(name), "hashes": [{"alg": "SHA-256", "content": digest}]}},
        "components": [component(one) for one in needed if one != name],
        "dependencies": [
            {"ref": references[one], "dependsOn": [references[other] for other in others]}
            for one, others in needed.items()
        ],
    }
    out.write_text(f"{json.dumps(bill, indent=2)}\n")
