"""The set of facts that platforms told: every fact once, with where it stood on the topic."""
