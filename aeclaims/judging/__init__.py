"""Judging: the record of a claim, and the judge of its numbers."""
