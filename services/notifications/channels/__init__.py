"""One module per way out."""
