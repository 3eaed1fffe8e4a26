"""The pages of the window, one package each. A page talks to the `Studio` through the bridge, and to nothing else."""
