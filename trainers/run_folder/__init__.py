"""Folder of a run: its state while it trains, its card, its data."""
