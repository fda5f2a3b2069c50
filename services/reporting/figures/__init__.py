"""Figures: what persons contribute, day by day, at every node of the territory."""
