"""Prompts that a server reads: what goes there, what comes back, and all that may go wrong."""
