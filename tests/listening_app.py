"""A page with two listening players, for the tests in the browser."""

import io

import numpy as np
import soundfile

from mer_core.listening import Heat, Version
from mer_core.plots.heat import axis_labels, heat_picture
from ui.listening import address, listening_player

RATE, SECONDS = 22050, 6


def tone(frequency: float) -> bytes:
    """FLAC of a tone."""
    stream = io.BytesIO()
    time = np.arange(RATE * SECONDS) / RATE
    soundfile.write(stream, 0.1 * np.sin(2 * np.pi * frequency * time), RATE, format="FLAC")
    return stream.getvalue()


def player(name: str, low: float) -> None:
    """One player of a low, a middle and a high tone."""
    versions = [
        Version(word, f"{low * k:g} Hz, +{k}.0 dB", address(tone(low * k), "audio/flac", f"{name}{k}"))
        for k, word in enumerate(("Original", "Evidence", "Without it"), start=1)
    ]
    grid = np.add.outer(np.sin(np.linspace(0, 20, 200)), np.cos(np.linspace(0, 5, 60)))
    picture = heat_picture(grid - 0.4, music=np.abs(grid))
    heat = Heat(
        address(picture, "image/png", name),
        "Relevance over time and frequency",
        axis_labels(np.geomspace(8000, 50, 60), 5, "Hz"),
        axis_labels(np.linspace(0, SECONDS, 200), 4, "s"),
    )
    listening_player(name, versions, heat, key=name)


if __name__ == "__main__":
    player("first", 220.0)
    player("second", 330.0)
