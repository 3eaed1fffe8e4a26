"""The page that is shown when the history cannot be read: what happened, and how to recover it."""
