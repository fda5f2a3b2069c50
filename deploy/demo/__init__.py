"""The demo: real learning records go the whole way, and a quarter is frozen."""
