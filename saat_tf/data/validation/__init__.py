"""Inspection of a data set in the list format."""
