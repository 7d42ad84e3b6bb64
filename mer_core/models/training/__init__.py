"""Training networks on spectrograms. `engine` and `losses` import torch; import them inside functions only."""
