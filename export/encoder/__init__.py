"""Encoders of finished runs, exported encoders, and what identifies them."""
