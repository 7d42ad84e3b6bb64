"""One player for one or several clips: waveform, transport, keys; starting it stops every other player of the page.

Conventions: loudness is equalised by turning loud clips down to -26 dBFS RMS (never up, so nothing clips); the gain is
printed, and one button plays all clips as recorded, where loudness itself is what one wants to hear.
Audio reaches the browser by address, not inside the page's data, so a list of clips costs nothing until one is played.
"""

from __future__ import annotations

import mimetypes
from dataclasses import dataclass
from pathlib import Path

import streamlit as st
from streamlit.runtime import get_instance

AUDIO_TYPES = {
    ".flac": "audio/flac",
    ".mp3": "audio/mpeg",
    ".wav": "audio/wav",
    ".ogg": "audio/ogg",
    ".m4a": "audio/mp4",
}


@dataclass(frozen=True)
class Clip:
    """Something to hear: its id, a label, and the path of an audio file (None where there is none)."""

    track_id: str
    label: str
    path: str | None


HTML = """
<section class="player" aria-label="Audio player" tabindex="0">
  <ol class="clips" role="listbox" aria-label="Clips"></ol>
  <div class="bar">
    <button class="play" aria-label="Play">▶</button>
    <canvas class="wave" role="slider" tabindex="0" aria-label="Position in seconds" aria-valuemin="0"></canvas>
    <span class="time">0:00 / –:––</span>
  </div>
  <div class="foot">
    <button class="equal" aria-pressed="true" title="Turn loud clips down, so that louder does not sound better">Equal
      loudness</button>
    <p class="said" aria-live="polite"></p>
  </div>
  <audio preload="metadata" data-testid="player-audio"></audio>
</section>
"""

CSS = """
.player { color: var(--st-text-color); font-family: var(--st-font); font-size: .9rem; outline-offset: 4px;
  border-radius: 8px; border: 1px solid var(--st-border-color); padding: .6rem .7rem; }
.bar { display: flex; align-items: center; gap: .6rem; }
.play { flex: none; width: 2.5rem; height: 2.5rem; border-radius: 50%; border: 0; cursor: pointer; font-size: 1rem;
  line-height: 1; background: var(--st-primary-color); color: var(--st-background-color); }
.play:disabled { opacity: .35; cursor: default; }
.wave { flex: 1; min-width: 0; height: 44px; cursor: pointer; border-radius: 4px; }
.time { flex: none; font-variant-numeric: tabular-nums; font-size: .82rem; }
.foot { display: flex; flex-wrap: wrap; align-items: center; gap: .2rem .6rem; margin-top: .35rem; }
.equal { font: inherit; font-size: .74rem; cursor: pointer; color: inherit; background: none; padding: .1rem .5rem;
  border: 1px solid var(--st-border-color); border-radius: 999px; }
.equal[aria-pressed=true] { background: var(--st-secondary-background-color); }
.said { margin: 0; font-size: .78rem; opacity: .75; min-height: 1.1em; }
.clips { list-style: none; margin: 0 0 .5rem; padding: 0; max-height: 15rem; overflow-y: auto; }
.clips:empty { display: none; }
.clips li { padding: .3rem .5rem; border-radius: 6px; cursor: pointer; overflow-wrap: anywhere; }
.clips li:hover { background: var(--st-secondary-background-color); }
.clips li[aria-selected=true] { background: var(--st-secondary-background-color); font-weight: 600; }
.clips li.silent { opacity: .55; cursor: default; }
audio { display: none; }
"""

JS = """
const TARGET_DBFS = -26, BARS = 160;
const clock = s => Number.isFinite(s) ? `${Math.floor(s / 60)}:${String(Math.floor(s % 60)).padStart(2, '0')}` : '–:––';
const decoded = new Map();
let equal = true;  // for every player of the page, so that clips stay comparable

async function shape(url) {
  const context = new OfflineAudioContext(1, 1, 22050);
  const sound = (await context.decodeAudioData(await (await fetch(url)).arrayBuffer())).getChannelData(0);
  const step = Math.max(1, Math.floor(sound.length / BARS));
  const peaks = [];
  let energy = 0;
  for (let i = 0; i < BARS; i++) {
    let peak = 0;
    for (let j = i * step; j < Math.min(sound.length, (i + 1) * step); j++) {
      peak = Math.max(peak, Math.abs(sound[j]));
      energy += sound[j] * sound[j];
    }
    peaks.push(peak);
  }
  return { peaks, rms: 10 * Math.log10(energy / Math.max(1, step * BARS) + 1e-12) };
}

export default function ({ parentElement, data }) {
  const find = selector => parentElement.querySelector(selector);
  const root = find('.player'), audio = find('audio'), play = find('.play'), wave = find('.wave');
  const time = find('.time'), said = find('.said'), list = find('.clips'), equally = find('.equal');
  const clips = data.clips;
  root.stop?.();  // a rerun with other clips calls this again without cleaning up first
  let now = -1, form = null, frame = 0;

  const paint = () => {
    const style = getComputedStyle(root), ratio = window.devicePixelRatio || 1;
    const width = wave.clientWidth, height = wave.clientHeight, pen = wave.getContext('2d');
    wave.width = width * ratio; wave.height = height * ratio;
    pen.scale(ratio, ratio);
    const done = audio.duration ? audio.currentTime / audio.duration : 0;
    const peaks = form ? form.peaks : new Array(BARS).fill(0.02), top = Math.max(0.05, ...peaks);
    peaks.forEach((peak, i) => {
      const size = Math.max(2, height * 0.95 * peak / top);
      pen.globalAlpha = i / BARS <= done ? 1 : 0.35;
      pen.fillStyle = i / BARS <= done ? style.getPropertyValue('--st-primary-color') : style.color;
      pen.fillRect(i * width / BARS, (height - size) / 2, Math.max(1, width / BARS - 1), size);
    });
    time.textContent = `${clock(audio.currentTime)} / ${clock(audio.duration)}`;
    wave.setAttribute('aria-valuenow', audio.currentTime.toFixed(1));
    wave.setAttribute('aria-valuemax', (audio.duration || 0).toFixed(1));
    play.textContent = audio.paused ? '▶' : '❚❚';
    play.setAttribute('aria-label', (audio.paused ? 'Play ' : 'Pause ') + (clips[now] ? clips[now].label : ''));
  };
  const follow = () => { paint(); frame = audio.paused ? 0 : requestAnimationFrame(follow); };
  const level = () => {
    const gain = form && equal ? Math.min(0, TARGET_DBFS - form.rms) : 0;
    audio.volume = Math.pow(10, gain / 20);
    equally.setAttribute('aria-pressed', String(equal));
    const words = equal ? `${gain.toFixed(1).replace('-', '−')} dB` : 'as recorded';
    said.textContent = form ? `${words} · keys: space, arrows` : '';
  };
  const pick = (index, start) => {
    if (index === now || !clips[index] || !clips[index].url) return;
    now = index; form = null;
    if (!audio.src.endsWith(clips[index].url)) audio.src = clips[index].url;
    [...list.children].forEach((item, i) => item.setAttribute('aria-selected', String(i === index)));
    const url = clips[index].url;
    if (!decoded.has(url)) decoded.set(url, shape(url).catch(() => null));
    decoded.get(url).then(found => { if (clips[now].url === url) { form = found; level(); paint(); } });
    if (start) audio.play();
    paint();
  };
  const toggle = () => { if (audio.paused) audio.play(); else audio.pause(); };
  const seek = seconds => { audio.currentTime = Math.max(0, Math.min(audio.duration || 0, seconds)); paint(); };
  const stopOthers = event => { if (event.detail !== audio) audio.pause(); };

  list.replaceChildren(...(clips.length > 1 ? clips : []).map((clip, i) => {
    const item = document.createElement('li');
    item.textContent = clip.url ? clip.label : `${clip.label} (no audio file)`;
    item.setAttribute('role', 'option');
    if (clip.url) item.onclick = () => { if (i === now) toggle(); else pick(i, true); };
    else item.className = 'silent';
    return item;
  }));
  audio.onplay = () => { window.dispatchEvent(new CustomEvent('mer-play', { detail: audio })); follow(); };
  audio.onpause = audio.onended = audio.onloadedmetadata = paint;
  audio.onerror = () => { said.textContent = 'This browser cannot play the file.'; };
  play.onclick = toggle;
  equally.onclick = () => { equal = !equal; window.dispatchEvent(new Event('mer-level')); };
  wave.onclick = event => {
    const box = wave.getBoundingClientRect();
    seek((event.clientX - box.left) / box.width * (audio.duration || 0));
  };
  root.onkeydown = event => {
    const next = event.key === 'ArrowDown' ? 1 : event.key === 'ArrowUp' ? -1 : 0;
    if (event.key === ' ' && event.target.tagName !== 'BUTTON') toggle();
    else if (event.key === 'ArrowRight') seek(audio.currentTime + 2);
    else if (event.key === 'ArrowLeft') seek(audio.currentTime - 2);
    else if (next && clips.length > 1) pick(now + next, !audio.paused);
    else return;
    event.preventDefault();
  };
  window.addEventListener('mer-play', stopOthers);
  window.addEventListener('mer-level', level);
  const resized = new ResizeObserver(paint);
  resized.observe(wave);
  pick(clips.findIndex(clip => clip.url), false);
  root.stop = () => {
    cancelAnimationFrame(frame);
    resized.disconnect();
    window.removeEventListener('mer-play', stopOthers);
    window.removeEventListener('mer-level', level);
  };
  return () => { root.stop(); audio.pause(); audio.removeAttribute('src'); };
}
"""

_component = st.components.v2.component("mer_player", html=HTML, css=CSS, js=JS)


def player(clips: list[Clip], key: str) -> None:
    """Show a player for the clips; says so where no clip has an audio file that exists."""
    addresses = [{"label": clip.label, "url": _address(clip, key)} for clip in clips]
    if not any(item["url"] for item in addresses):
        st.info(_why_silent(clips), icon=":material/volume_off:")
        return
    _component(data={"clips": addresses}, key=f"player-{key}")


def _why_silent(clips: list[Clip]) -> str:
    lost = [clip.path for clip in clips if isinstance(clip.path, str)]
    if lost:
        return f"The audio file is not there any more: `{lost[0]}`. Put it back, or run the pipeline on its new place."
    return "This dataset came without audio for this track; scores and explanations still hold."


def _address(clip: Clip, key: str) -> str | None:
    """Where the browser finds the file; None when it does not exist."""
    if not isinstance(clip.path, str) or not Path(clip.path).is_file() or Path(clip.path).stat().st_size == 0:
        return None
    suffix = Path(clip.path).suffix.lower()
    kind = AUDIO_TYPES.get(suffix) or mimetypes.guess_type(clip.path)[0] or "audio/wav"
    return get_instance().media_file_mgr.add(clip.path, kind, f"player-{key}-{clip.track_id}")
