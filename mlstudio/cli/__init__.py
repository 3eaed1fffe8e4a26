"""The command line: one command per service, for people and for scripts."""
