"""The faults, one module per kind; importing the package declares them all."""
