"""Runs one measurement after the other, in processes of their own, and notes what came of each."""
