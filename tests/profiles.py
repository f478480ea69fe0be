"""The profiles, whatever is edited in params.yaml to run other experiments."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
PROFILES = {path.stem: path for path in sorted((ROOT / "workflows" / "profiles").glob("*.yaml"))}
MINI, SMOKE, PAPER = (PROFILES[name] for name in ("mini", "smoke", "paper"))
