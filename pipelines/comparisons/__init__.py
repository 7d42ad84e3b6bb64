"""The comparisons that `compare` makes, one module each, and what they share."""

from __future__ import annotations

import sys
from pathlib import Path


def listed(text: str) -> tuple[str, ...]:
    """Words between commas, without repeats; a path that exists is one word, whatever characters it holds."""
    if text and Path(text).exists():
        return (text,)
    return tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))


def say(lines: list[str], writer) -> None:
    """Print lines to standard error, and keep them in the log."""
    for line in lines:
        writer.log(line)
        print(line, file=sys.stderr)
