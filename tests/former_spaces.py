"""Spaces of earlier versions, for tests whose expected numbers depend on the space."""

from pathlib import Path

FORMER_V2 = Path(__file__).parent / "spaces" / "v2.yaml"
