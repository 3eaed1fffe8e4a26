"""The page of one run: its curves and system readings, its log, its environment, its code."""
