"""What the folder of a run holds: its state while it trains, its card, its data."""
