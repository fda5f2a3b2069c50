"""What a clerk does with dead letters: read, mend, apply after all, drop; on the command line and over HTTP (decision 0010)."""
