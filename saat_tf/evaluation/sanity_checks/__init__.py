"""Checks that report a robustness figure that is not to be believed."""
