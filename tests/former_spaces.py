"""Spaces as they once were shipped, for tests whose figures depend on the space."""

from pathlib import Path

FORMER_V2 = Path(__file__).parent / "spaces" / "v2.yaml"
