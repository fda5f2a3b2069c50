"""How the system is brought to run."""
