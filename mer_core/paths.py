"""Where this project keeps what it writes."""

from __future__ import annotations

import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent


def artifacts_root() -> Path:
    """Folder of runs, jobs, caches and the demo corpus: `MER_ARTIFACTS`, or `artifacts/` in the repository."""
    return Path(os.environ.get("MER_ARTIFACTS") or REPOSITORY / "artifacts").resolve()
