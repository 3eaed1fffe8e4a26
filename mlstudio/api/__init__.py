"""ML Studio for scripts and notebooks: what the window and the command line can do, as Python objects.

::

    import mlstudio

    with mlstudio.Studio() as studio:
        for run in studio.runs('lr < 1e-3 and val.acc.max > 0.9', sort="val/acc.max", limit=10):
            loss = run.series("loss")
            print(run.name, run.params["lr"], loss.values[-1])
        table = studio.table('"cnn" in tags')

        run = studio.launch("examples/digits-cnn", "--epochs", "5")
        run.wait()

Everything reads the same history, and starts runs by the same services. See docs/python.md.
"""

from mlstudio.api.run import Medium, Run, Series
from mlstudio.api.studio import Studio

__all__ = ["Medium", "Run", "Series", "Studio"]
