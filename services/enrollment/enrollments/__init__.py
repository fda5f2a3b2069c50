"""Enrollments: one registration of one person in one course run."""
