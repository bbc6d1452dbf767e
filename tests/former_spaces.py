"""Earlier packaged spaces, for tests with statistics of the space."""

from pathlib import Path

FORMER_V2 = Path(__file__).parent / "spaces" / "v2.yaml"
