"""Recipes: options as dataclasses, their checks, and what each data set needs."""
