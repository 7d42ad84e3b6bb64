"""Why a prediction came out as it did: attributions, and the files they are kept in."""
