"""The machinery on real servers."""
