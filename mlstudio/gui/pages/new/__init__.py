"""The page New: what to run at the left, what will happen at the right."""
