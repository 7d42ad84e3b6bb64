"""The listening player as a Streamlit component: versions of one clip (original, evidence, without it), a heat map."""

from __future__ import annotations

import streamlit as st
from streamlit.runtime import get_instance

from mer_core.listening import SCRIPT, STYLE, Heat, Version, markup

THEME = """.listening { --ink: var(--st-text-color); --page: var(--st-background-color);
  --accent: var(--st-primary-color); --edge: var(--st-border-color); --wash: var(--st-secondary-background-color);
  font-family: var(--st-font); }"""
# A rerun calls this again without cleaning up first; the same clip then plays on.
MOUNT = """
export default function ({ parentElement, data }) {
  const mount = parentElement.querySelector('.mount');
  if (mount.shown === data.markup) return mount.stop;
  mount.stop?.();
  mount.shown = data.markup;
  mount.innerHTML = data.markup;
  mount.stop = listeningPlayer(mount.querySelector('.listening'));
  return () => { mount.stop(); mount.shown = null; };
}
"""

_component = st.components.v2.component(
    "mer_listening", html='<div class="mount"></div>', css=STYLE + THEME, js=SCRIPT + MOUNT
)


def address(content: bytes | str, kind: str, key: str) -> str:
    """Where the browser finds bytes (or the file at a path) of a media type such as audio/flac."""
    return get_instance().media_file_mgr.add(content, kind, f"listening-{key}")


def listening_player(label: str, versions: list[Version], heat: Heat | None, key: str) -> None:
    """Show the versions of one clip in one player; keys: space, arrows, A, B, C."""
    _component(data={"markup": markup(label, versions, heat)}, key=f"listening-{key}")
