"""`speechprune serve`: an OpenAI-compatible server whose recordings are pruned."""
