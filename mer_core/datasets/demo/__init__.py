"""The demo corpus: a designed experiment whose causes are known, rendered on first use.

Read in this order: `design` (which cues vary how, and the planted weights), `pieces` (the scores), `performance`
(cues to notes), `render` (notes to sound), `midlevel` (what the notes amount to), `tables` and `build` (what is
written). `composed` and `choosing` make a larger corpus of other pieces with
random cues, to train networks on.
"""

from mer_core.datasets.demo.build import build_composed, build_demo

__all__ = ["build_composed", "build_demo"]
