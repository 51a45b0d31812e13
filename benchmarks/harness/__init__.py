"""Runs one measurement after another, each in its own processes, and collects the results."""
