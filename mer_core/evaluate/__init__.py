"""How good is it, and how sure: splits that do not leak, and scores with intervals."""
