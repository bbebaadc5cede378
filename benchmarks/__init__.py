"""Programs that measure what README and docs state."""
