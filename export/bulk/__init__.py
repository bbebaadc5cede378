"""Encoding many images into a folder of packed codes."""
