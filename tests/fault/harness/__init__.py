"""A run under a fault: stories, ledger, recount, checker, the system that is hurt, and the report."""
