"""Writing runs for other tools."""
