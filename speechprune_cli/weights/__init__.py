"""Weights on this machine: fetched, checked, converted, removed."""
