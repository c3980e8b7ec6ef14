"""Per-token objectives and their reduction."""
