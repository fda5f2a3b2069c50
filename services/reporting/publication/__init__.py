"""Publication: changed cells of nation and provinces, brought to the figures topic."""
