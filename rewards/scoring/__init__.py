"""Scoring a batch: the worker process, and what code that is not ours may do to it."""
