"""Networks as torch modules. The modules of this package import torch; import them inside functions only."""
