"""Benchmarks: what they ask, how runs are made, kept and summed up."""
