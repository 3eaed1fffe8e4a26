"""ML Studio: experiments in containers."""
