"""What no input, kill or neighbour may do; see the README."""
