"""Random faults while real containers log: nothing is lost, none twice. `python -m tests.chaos --faults 2000`."""
