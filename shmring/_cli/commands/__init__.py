"""The commands: a module for each, with its name."""
