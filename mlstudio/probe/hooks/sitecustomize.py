"""Runs as an interpreter of a run starts: sees to it that the loggers of frameworks reach the run with no code change.

It travels at the top of the probe's file, which `PYTHONPATH` names, under the one name that Python imports by itself.
All it does is to look out for a few modules. When one of them is imported, `mlstudio.probe.hooks` has a hook for it;
until then nothing is loaded. ``MLSTUDIO_HOOKS=0`` in the run's environment turns it off.

There can be one `sitecustomize` only. One that comes later in the path (the image's or the user's) is hidden by this one,
and so it is run from here, as if this one were not there.

Every interpreter of a run waits for this, and one of another version than ours compiles it first: it is kept short, and
imports nothing.
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

WATCHED = {
    "keras.src.callbacks.callback_list": "keras",
    "keras.src.callbacks": "keras",
    "keras.callbacks": "keras",
    "tf_keras.src.callbacks": "keras",
    "tf_keras.callbacks": "keras",
    "tensorflow.python.keras.callbacks": "keras",
    "lightning.pytorch.trainer.trainer": "lightning",
    "pytorch_lightning.trainer.trainer": "lightning",
    "lightning.pytorch.callbacks.lr_monitor": "lightning",
    "pytorch_lightning.callbacks.lr_monitor": "lightning",
    "lightning.fabric.fabric": "lightning",
    "lightning_fabric.fabric": "lightning",
    "transformers.trainer": "transformers",
    "accelerate.accelerator": "accelerate",
    "fastai.learner": "fastai",
    "xgboost.training": "xgboost",
    "lightgbm.engine": "lightgbm",
    "torch.utils.tensorboard.writer": "tensorboard",
    "tensorboardX.writer": "tensorboard",
    "tensorflow.python.ops.summary_ops_v2": "tensorboard",
}
"""Modules of frameworks, older and newer ones, and the hook for each."""


class Finder:
    """Finds nothing itself: where a watched module is found, its hook is called after it was loaded."""

    def find_spec(self, name: str, path: "Any" = None, target: "Any" = None) -> "Any":
        if name not in WATCHED:
            return None
        spec = found(name, path, target, but=self)
        try:
            from mlstudio.probe.hooks.loading import Loader

            if hasattr(spec.loader, "exec_module"):
                spec.loader = Loader(spec.loader, WATCHED[name])
        except Exception:  # noqa: BLE001 — the module is imported, with or without us
            pass
        return spec


def found(name: str, path: "Any", target: "Any" = None, but: "Any" = None) -> "Any":
    """The module's spec, as Python would find it without `but`."""
    for finder in sys.meta_path:
        find = None if finder is but else getattr(finder, "find_spec", None)
        spec = find(name, path, target) if find is not None else None
        if spec is not None:
            return spec
    return None


def run_hidden() -> None:
    """Run the `sitecustomize` that Python would have found without this one. What it raises is Python's to tell."""
    own = os.path.dirname(__file__)
    spec = found("sitecustomize", [entry for entry in sys.path if entry != own])
    if spec is None or spec.loader is None:
        return
    # What `importlib.util.module_from_spec` does, which takes a millisecond to import.
    module = type(sys)("sitecustomize")
    module.__spec__, module.__loader__, module.__package__ = spec, spec.loader, spec.parent
    module.__file__ = spec.origin
    if spec.submodule_search_locations is not None:
        module.__path__ = spec.submodule_search_locations
    sys.modules["sitecustomize"] = module
    spec.loader.exec_module(module)


if __name__ == "sitecustomize":
    if os.environ.get("MLSTUDIO_CHANNEL") and os.environ.get("MLSTUDIO_HOOKS") != "0":
        sys.meta_path.insert(0, Finder())
    run_hidden()
