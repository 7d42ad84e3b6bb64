"""The Deezer mood detection set: published lists (train, validation, test), and previews that the user brings.

Lists: `train.csv`, `validation.csv`, `test.csv` with dzr_sng_id, valence, arousal, artist_name, track_name. Previews
are named by their id, `<dzr_sng_id>.mp3` (or another format), in one folder. Ratings were derived from tags, not given
by listeners of the previews; they are centred on 0 and reach from about -2.3 to 2.8.

Source: R. Delbouys et al., "Music mood detection based on audio and lyrics with deep neural net", ISMIR 2018.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from mer_core.datasets.dataset import VALENCE_AROUSAL, Dataset, LoadReport
from mer_core.datasets.table_file import read_rows
from mer_core.datasets.tracks import AUDIO_SUFFIXES
from mer_core.errors import UserError

PARTS = ("train", "validation", "test")
COLUMNS = ("dzr_sng_id", *VALENCE_AROUSAL, "artist_name", "track_name")
SCALE = (-3.0, 3.0)


def is_deezer(folder: Path) -> bool:
    """Whether the lists lie in this folder."""
    path = folder / "train.csv"
    if not path.is_file():
        return False
    with path.open(encoding="utf-8", errors="replace") as file:
        return "dzr_sng_id" in file.readline()


def load_deezer(folder: str | Path, audio: str | Path | None = None) -> Dataset:
    """Tracks of the three lists that have a preview; the group is the artist, the part is the list.

    Parameters
    ----------
    folder : with the lists
    audio : folder of the previews; `audio/` beside the lists when None

    Raises
    ------
    UserError : no list or no preview is there, or a list lacks a column
    """
    folder = Path(folder).resolve()
    previews = Path(audio).expanduser() if audio else folder / "audio"
    if not previews.is_dir():
        raise UserError(
            f"there are no previews of {folder.name} at {previews}: its lists come without audio; name the folder of "
            "previews, <dzr_sng_id>.mp3 each, with --pretrain-audio"
        )
    known = {path.stem: str(path) for path in sorted(previews.iterdir()) if path.suffix.lower() in AUDIO_SUFFIXES}
    table = pd.concat([_read(folder / f"{part}.csv", part) for part in PARTS if (folder / f"{part}.csv").is_file()])
    table = table[~table.index.duplicated()]
    paths = pd.Series([known.get(track) for track in table.index], table.index, dtype=object)
    have = paths.notna()
    if not have.any():
        raise UserError(
            f"none of the {len(known)} audio files in {previews} is a preview of {folder.name}: name them by "
            f"their dzr_sng_id, such as {table.index[0]}.mp3"
        )
    missing = tuple(
        f"{int((~have[rows]).sum())} of the {int(rows.sum())} songs of {part} have no preview and were left out."
        for part in PARTS
        if (rows := table["part"] == part).any() and not have[rows].all()
    )
    table = table[have]
    tracks = pd.DataFrame({"path": paths[have], "group": table["artist_name"].astype(str), "part": table["part"]})
    tracks["title"] = table["track_name"].astype(str)
    ratings = table[list(VALENCE_AROUSAL)].astype(float)
    found = {"tracks": len(tracks), "audio files": len(tracks), "artists": tracks["group"].nunique()}
    notes = ("Ratings were derived from tags of the songs, not given by listeners of the previews.",)
    report = LoadReport(found, missing, (), notes)
    return Dataset(
        *(folder.name, folder, "deezer", "as given", SCALE, tracks, ratings, pd.DataFrame(index=tracks.index), report)
    )


def _read(path: Path, part: str) -> pd.DataFrame:
    """One list, index track id."""
    header, rows, _ = read_rows(path)
    table = pd.DataFrame([cells for _, cells in rows if len(cells) == len(header)], columns=header)
    if lacking := [column for column in COLUMNS if column not in table]:
        raise UserError(f"{path} has no column {lacking[0]!r}; expected {', '.join(COLUMNS)}")
    for name in VALENCE_AROUSAL:
        table[name] = pd.to_numeric(table[name], errors="coerce")
    table = table.dropna(subset=list(VALENCE_AROUSAL)).set_index("dzr_sng_id")
    return table.set_index(table.index.astype(str).rename("track_id")).assign(part=part)
