"""Ratings over time as a picture that a player can move its cursor over."""

from __future__ import annotations

import pandas as pd

from mer_core.plots.style import palette, target_colour

WIDTH, HEIGHT = 1000, 240


def curve_picture(table: pd.DataFrame, scale: tuple[float, float], duration_s: float, dark: bool) -> bytes:
    """SVG without margins: one line per target over the whole clip, the lowest rating at the bottom.

    table : columns seconds, target, predicted; scale : lowest and highest rating; duration_s : of the whole clip
    """
    low, high = scale
    middle = HEIGHT / 2
    parts = [
        f'<line x1="0" x2="{WIDTH}" y1="{middle}" y2="{middle}" stroke="{palette(dark)["line"]}" '
        'stroke-dasharray="4 6" vector-effect="non-scaling-stroke"/>'
    ]
    for target, rows in table.sort_values("seconds").groupby("target", sort=True):
        x = (rows["seconds"] / max(duration_s, 1e-9) * WIDTH).tolist()
        y = ((high - rows["predicted"].clip(low, high)) / (high - low) * HEIGHT).tolist()
        # What the first and last window say holds to the ends of the clip.
        points = [(0, y[0]), *zip(x, y, strict=True), (WIDTH, y[-1])]
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{target_colour(target, dark)}" stroke-width="3" '
            'vector-effect="non-scaling-stroke"/>'
        )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none">'
        f"{''.join(parts)}</svg>"
    ).encode()
