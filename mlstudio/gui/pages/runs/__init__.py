"""The page of all runs: a live table, and plots of the drawn ones beside it."""
