"""Who must know what, when, once."""
