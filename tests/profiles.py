"""The profiles, whatever is edited in params.yaml to run other experiments."""

from functools import cache
from pathlib import Path

from workflows.profile import profile, text

ROOT = Path(__file__).parents[1]
PROFILES = {path.stem: path for path in sorted((ROOT / "workflows" / "profiles").glob("*.yaml"))}
MINI, SMOKE, PAPER = (PROFILES[name] for name in ("mini", "smoke", "paper"))


@cache
def written(name: str) -> str:
    """params.yaml with the numbers of a profile."""
    return text(profile(name))
