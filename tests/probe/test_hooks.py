"""The hooks into frameworks, with small modules of the real ones' shapes, in runs of the real probe.

That the real libraries have these shapes is tested where they are installed: `tests/loggers`.
"""

from __future__ import annotations

import math
import textwrap
from pathlib import Path
from typing import Any

import pytest

from mlstudio.probe.wire import decode_points
from tests.probe.fake_frameworks import FRAMEWORKS
from tests.probe.runs import PYTHON, Bench, Outcome

Series = dict[tuple[str, str], list[tuple[int, float]]]


class Lab:
    """Runs scripts that find the frameworks' likenesses."""

    def __init__(self, bench: Bench, folder: Path) -> None:
        self.bench = bench
        self.folder = folder
        for path, source in FRAMEWORKS.items():
            self.add(path, source)

    def add(self, path: str, source: str) -> None:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        for parent in file.relative_to(self.folder).parents:
            init = self.folder / parent / "__init__.py"
            if parent != Path() and not init.exists():
                init.write_text("")
        file.write_text(textwrap.dedent(source))

    def run(self, script: str, **env: str) -> Outcome:
        return self.bench.run(
            [PYTHON, "-W", "error", "-c", textwrap.dedent(script)],
            # Said by the run: what the probe adds to the path must not be lost by it.
            settings={"env": {"PYTHONPATH": str(self.folder)} | env},
        )


@pytest.fixture
def lab(bench: Bench, tmp_path: Path) -> Lab:
    return Lab(bench, tmp_path / "frameworks")


def logged(outcome: Outcome) -> Series:
    found: Series = {}
    for frame in outcome.frames:
        for part in decode_points(frame.body):
            if part.kind == "metric":
                rows = zip(part.steps, part.values, strict=True)
                found.setdefault((part.logger, part.name), []).extend(rows)
    return found


def params(outcome: Outcome) -> dict[str, Any]:
    return {event["name"]: event["value"] for event in outcome.events("param")}


def loggers(outcome: Outcome) -> list[tuple[str, str]]:
    return [(event["logger"], event.get("version", "")) for event in outcome.events("logger")]


# ── each framework ─────────────────────────────────────────────────────────────────────────────────────────────────

KERAS = """
    from {module} import Callback, CallbackList, fit, Model
    class Own(Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["added"] = 7
    for callbacks in (None, [], (Own(),), Own()):
        fit(Model(), callbacks, epochs=2, batches=3)
"""


@pytest.mark.parametrize("module", ["keras.src.callbacks.callback_list", "tf_keras.src.callbacks"])
def test_keras(lab: Lab, module: str) -> None:
    outcome = lab.run(KERAS.format(module=module))
    assert (outcome.code, outcome.log) == (0, b"")
    points = logged(outcome)
    assert {logger for logger, _ in points} == {"keras"}
    # Four trainings, one after the other: their epochs and batches are counted on.
    losses = [1.0, 0.5]
    assert points["keras", "loss"] == [(2 * fit + i, losses[i]) for fit in range(4) for i in range(2)]
    assert points["keras", "val_loss"] == [(2 * fit + i, 2 * losses[i]) for fit in range(4) for i in range(2)]
    assert points["keras", "learning_rate"] == [(i, 0.125) for i in range(8)]
    assert points["keras", "added"] == [(i, 7) for i in range(4, 8)]
    assert points["keras", "batch_loss"] == [(i + 1, i % 3) for i in range(24)]
    assert loggers(outcome) == [("keras", "3.1" if module.startswith("keras") else "2.16")]
    assert params(outcome)["optimizer"] == "sgd"
    assert params(outcome)["model_parameters"] == 5
    assert {event["logger"] for event in outcome.events("param")} == {"keras"}


@pytest.mark.parametrize("package", ["lightning.pytorch", "pytorch_lightning"])
def test_lightning(lab: Lab, package: str) -> None:
    outcome = lab.run(f"""
        from {package}.trainer.trainer import Trainer
        for loggers in ([], ["one"]):
            trainer = Trainer(loggers)
            trainer.fit()
            print(len(trainer.handed))
        from {package}.callbacks.lr_monitor import LearningRateMonitor
        print([LearningRateMonitor()._extract_stats(trainer, when) for when in ("step", "epoch")])
    """)
    assert outcome.log == b"0\n3\n[{}, {'lr-SGD': 0.1}]\n"
    assert logged(outcome) == {
        ("lightning", "train_loss"): [(5, 0.5), (5, 0.5)],
        ("lightning", "epoch"): [(5, 2), (5, 2)],
        ("lightning", "val_loss"): [(9, 0.25), (40, 0.125)] * 2,
        ("lightning", "group/a"): [(5, 1), (5, 1)],
        ("lightning", "lr-SGD"): [(5, 0.1)],
    }
    assert params(outcome) == {"rate": 0.1, "hidden": 8}
    assert loggers(outcome) == [("lightning", "2.6")]


def test_fabric(lab: Lab) -> None:
    outcome = lab.run("""
        from lightning.fabric.fabric import Fabric
        fabric = Fabric()
        fabric.log("loss", 0.5, step=3)
        fabric.log_dict({"a": 1, "b": 2}, 4)
        fabric.log("loss", 0.25)
    """)
    assert logged(outcome) == {
        ("lightning", "loss"): [(3, 0.5), (0, 0.25)],
        ("lightning", "a"): [(4, 1)],
        ("lightning", "b"): [(4, 2)],
    }


def test_transformers(lab: Lab) -> None:
    outcome = lab.run("""
        import inspect
        from transformers.trainer import Trainer
        from transformers.trainer_seq2seq import Seq2SeqTrainer
        print(inspect.signature(Trainer.__init__))
        for kind in (Trainer, Seq2SeqTrainer):
            kind("model").train()
    """)
    assert outcome.log == b"(self, model=None, args=None)\n"
    assert logged(outcome) == {
        ("transformers", "loss"): [(10, 0.5)] * 2,
        ("transformers", "learning_rate"): [(10, 1e-3)] * 2,
        # Taken out by another callback, but in the history.
        ("transformers", "total_flos"): [(10, 99)] * 2,
        ("transformers", "epoch"): [(10, 0.5), (20, 1)] * 2,
        ("transformers", "eval_loss"): [(20, 0.75)] * 2,
    }
    assert params(outcome) == {
        "learning_rate": 1e-3,
        "lr_scheduler_type": "linear",
        "num_train_epochs": 3,
        "bf16": True,
        "model_class": "str",
    }


def test_accelerate(lab: Lab) -> None:
    outcome = lab.run("""
        from accelerate.accelerator import Accelerator
        for is_main in (True, False):
            accelerator = Accelerator(is_main)
            accelerator.init_trackers("demo", config={"lr": 0.5})
            accelerator.log({"loss": 0.5, "text": "left out"}, step=3)
            accelerator.log({"loss": 0.25}, 4, {})
            print(accelerator.logged)
    """)
    assert outcome.log == b"[3, 4]\n[3, 4]\n"
    assert logged(outcome) == {("accelerate", "loss"): [(3, 0.5), (4, 0.25)]}
    assert params(outcome) == {"lr": 0.5}


def test_fastai(lab: Lab) -> None:
    outcome = lab.run("""
        from fastai.learner import Learner
        learner = Learner()
        learner.fit(2)
        learner.lr_finder = True
        learner.fit(1)
        del learner.lr_finder
        learner.fit(1)
    """)
    assert logged(outcome) == {
        ("fastai", "train_loss"): [(0, 1.0), (1, 0.5), (2, 1.0)],
        ("fastai", "valid_loss"): [(0, 2.0), (1, 1.0), (2, 2.0)],
        ("fastai", "batch_loss"): [(i, 1 / (k + 1)) for i, k in enumerate([0, 1, 2, 3, 0, 1])],
        ("fastai", "lr"): [(i, 0.01) for i in range(6)],
    }
    assert loggers(outcome) == [("fastai", "2.8")]


def test_xgboost(lab: Lab) -> None:
    outcome = lab.run("""
        from xgboost.sklearn import fit
        from xgboost import train, cv
        result = {}
        train({"max_depth": 3, "missing": float("nan"), "objective": None}, "data", 2, evals=["train", "test"],
              evals_result=result)
        print(result)
        fit("data")
        cv({}, "data", 2)
        train({}, "data", 2)
    """)
    assert outcome.log == b"{'train': {'rmse': [0.5, 0.25]}, 'test': {'rmse': [0.5, 0.25]}}\n"
    assert logged(outcome) == {
        ("xgboost", "train/rmse"): [(0, 0.5), (1, 0.25)],
        ("xgboost", "validation_0/rmse"): [(2, 0.5), (3, 0.25)],
        ("xgboost", "test/rmse"): [(0, 0.5), (1, 0.25), (4, 0.5), (5, 0.25)],
        ("xgboost", "test/rmse-std"): [(4, 0.125), (5, 0.125)],
    }
    assert params(outcome) == {"max_depth": 3, "num_boost_round": 2}
    assert loggers(outcome) == [("xgboost", "3.2")]


def test_lightgbm(lab: Lab) -> None:
    outcome = lab.run("""
        from lightgbm import train, cv
        mine = []
        train({"num_leaves": 7, "objective": len}, "data", 2, callbacks=[mine.append])
        print(len(mine))
        train({}, "data", num_boost_round=1)
        cv({}, "data", 1)
    """)
    assert outcome.log == b"2\n"
    assert logged(outcome) == {
        ("lightgbm", "valid_0/l2"): [(0, 0.5), (1, 0.25), (2, 0.5)],
        ("lightgbm", "valid/l2"): [(3, 0.5)],
        ("lightgbm", "valid/l2-std"): [(3, 0.125)],
        ("lightgbm", "train/l1"): [(3, 0.75)],
        ("lightgbm", "train/l1-std"): [(3, 0.25)],
    }
    assert params(outcome) == {"num_leaves": 7, "num_boost_round": 1}


def test_writers_of_event_files_write_every_second(lab: Lab) -> None:
    outcome = lab.run("""
        from torch.utils.tensorboard.writer import SummaryWriter
        from tensorboardX.writer import SummaryWriter as Other
        from tensorflow.python.ops.summary_ops_v2 import create_file_writer_v2 as create
        for kind in (SummaryWriter, Other):
            print(kind("a").flush_secs, kind("a", flush_secs=60).flush_secs, kind("a", "", None, 10, 30).flush_secs)
        print(create("a"), create("a", None, 5000), create("a", flush_millis=7000))
    """)
    assert outcome.log == b"1 60 30\n1 60 30\n1000 5000 7000\n"


# ── whatever happens ───────────────────────────────────────────────────────────────────────────────────────────────

TRAIN = """
from keras.src.callbacks.callback_list import fit, Model
fit(Model(), None, epochs=2, batches=1)
"""


def test_switched_off(lab: Lab) -> None:
    outcome = lab.run(TRAIN + "import sys; print('mlstudio' in sys.modules)", MLSTUDIO_HOOKS="0")
    assert (outcome.log, logged(outcome), loggers(outcome)) == (b"False\n", {}, [])


def test_nothing_is_loaded_before_it_is_needed(lab: Lab) -> None:
    outcome = lab.run("import sys; print([name for name in sys.modules if 'mlstudio' in name])")
    assert outcome.log == b"[]\n"


@pytest.mark.parametrize(
    ("ranks", "is_logged"),
    [
        ({"RANK": "0", "LOCAL_RANK": "0"}, True),
        ({"RANK": "1", "LOCAL_RANK": "1"}, False),
        ({"RANK": "8", "LOCAL_RANK": "0"}, False),
        ({"LOCAL_RANK": "1"}, False),
        ({"OMPI_COMM_WORLD_RANK": "3"}, False),
        ({"RANK": ""}, True),
    ],
)
def test_one_of_several_processes_speaks(lab: Lab, ranks: dict[str, str], is_logged: bool) -> None:
    outcome = lab.run(TRAIN, **ranks)
    assert bool(logged(outcome)) is bool(loggers(outcome)) is bool(params(outcome)) is is_logged


def test_child_processes(lab: Lab) -> None:
    lab.add("child.py", TRAIN)
    outcome = lab.run("""
        import keras.src.callbacks.callback_list as keras, os, subprocess, sys
        if os.fork() == 0:
            keras.fit(keras.Model(), None, epochs=1, batches=1)
            os._exit(0)
        os.wait()
        subprocess.run([sys.executable, "-m", "child"], check=True)
    """)
    assert logged(outcome)["keras", "loss"] == [(0, 1.0), (0, 1.0), (1, 0.5)]


def test_what_fails_in_a_hook_is_told_once_and_harms_nothing(lab: Lab) -> None:
    outcome = lab.run("""
        from lightning.pytorch.trainer.trainer import Trainer
        class Odd(Trainer):
            @property
            def current_epoch(self): raise ZeroDivisionError("no epoch")
        for _ in range(3):
            Odd([]).fit()
        print("trained")
    """)
    assert outcome.log == b"trained\n"
    (lacks,) = outcome.events("lacks")
    assert lacks["what"] == "lightning"
    assert "ZeroDivisionError: no epoch" in lacks["why"]
    # The rest arrives.
    assert logged(outcome)["lightning", "val_loss"] == [(9, 0.25), (40, 0.125)] * 3


def test_a_framework_of_another_shape_works_as_without_us(lab: Lab) -> None:
    for path in ("keras/src/callbacks/callback_list.py", "xgboost/training.py", "lightgbm/engine.py"):
        lab.add(path, "value = 3\nCallbackList = Callback = train = cv = CallbackContainer = 5\n")
    lab.add("transformers/trainer.py", "value = 3\n")
    lab.add("fastai/learner.py", "value = 3\n")
    outcome = lab.run("""
        import keras.src.callbacks.callback_list as a, xgboost.training as b, lightgbm.engine as c
        import transformers.trainer as d, fastai.learner as e
        print([module.value for module in (a, b, c, d, e)])
    """)
    assert outcome.log == b"[3, 3, 3, 3, 3]\n"
    assert {event["what"] for event in outcome.events("lacks")} >= {"transformers", "fastai"}


def test_a_module_that_cannot_be_imported(lab: Lab) -> None:
    lab.add("transformers/trainer.py", "raise ImportError('no torch')\n")
    outcome = lab.run("""
        for _ in range(2):
            try:
                import transformers.trainer
            except ImportError as error:
                print(error)
        try:
            import lightgbm.engine.none
        except ModuleNotFoundError as error:
            print(error.name)
    """)
    assert outcome.log == b"no torch\nno torch\nlightgbm.engine.none\n"
    assert outcome.events("lacks") == []


def test_modules_look_as_without_us(lab: Lab) -> None:
    script = """
        import importlib.util, inspect
        print(type(importlib.util.find_spec("lightgbm.engine").loader.get_source("lightgbm.engine")).__name__)
        import lightgbm.engine as engine
        print(type(engine.__loader__).__name__, type(engine.__spec__.loader).__name__)
        print(inspect.getsource(engine).count("def train"), inspect.getsource(engine.train)[:9])
        print(inspect.signature(engine.train), engine.train.__name__, engine.train.__module__)
    """
    with_us, without = lab.run(script).log, lab.run(script, MLSTUDIO_HOOKS="0").log
    assert with_us == without
    assert with_us.startswith(b"str\nSourceFileLoader SourceFileLoader\n1 def train\n")


def test_patching_twice_logs_once(lab: Lab) -> None:
    outcome = lab.run("""
        import importlib, keras.src.callbacks as names, keras.src.callbacks.callback_list as keras
        importlib.reload(names)
        own = []
        for _ in range(2):
            keras.fit(keras.Model(), own, epochs=1, batches=1)
        print(own)
    """)
    assert outcome.log == b"[]\n"
    assert logged(outcome)["keras", "loss"] == [(0, 1.0), (1, 1.0)]


# ── sitecustomize ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_users_own_sitecustomize_is_run(lab: Lab) -> None:
    lab.add("sitecustomize.py", "import sys\nsys.found = (__name__, __file__, __spec__.origin)\n")
    outcome = lab.run(TRAIN + "import sys, sitecustomize; print(*sys.found, sitecustomize.__file__)")
    path = str(lab.folder / "sitecustomize.py")
    assert outcome.log.decode() == f"sitecustomize {path} {path} {path}\n"
    assert logged(outcome)["keras", "loss"] == [(0, 1.0), (1, 0.5)]


def test_what_the_users_own_sitecustomize_raises_is_told_as_ever(lab: Lab) -> None:
    lab.add("sitecustomize.py", "raise ZeroDivisionError('mine')\n")
    with_us = lab.run(TRAIN + "print('trained')")
    assert b"trained" in with_us.log
    assert b"Error in sitecustomize" in with_us.log
    assert b"ZeroDivisionError: mine" in with_us.log
    assert logged(with_us)["keras", "loss"] == [(0, 1.0), (1, 0.5)]


def test_outside_of_a_run_it_does_nothing(lab: Lab) -> None:
    lab.add("child.py", TRAIN + "import sys\nprint([name for name in sys.modules if 'mlstudio' in name])")
    outcome = lab.run("""
        import os, subprocess, sys
        del os.environ["MLSTUDIO_CHANNEL"]
        subprocess.run([sys.executable, "-m", "child"], check=True)
    """)
    assert outcome.log == b"[]\n"
    assert logged(outcome) == {}


def test_numbers_that_are_none_are_left_out(lab: Lab) -> None:
    outcome = lab.run("""
        from accelerate.accelerator import Accelerator
        class Bad:
            def __float__(self): raise ZeroDivisionError
        class Tensor:
            def item(self): return 0.5
        values = {"a": Bad(), "b": None, "c": "text", "d": [1], "e": Tensor(), "f": float("nan"), 7: True}
        Accelerator(True).log(values, step=1)
    """)
    points = logged(outcome)
    assert points["accelerate", "e"] == [(1, 0.5)]
    assert math.isnan(points["accelerate", "f"][0][1])
    assert points["accelerate", "7"] == [(1, 1)]
    assert len(points) == 3
    assert outcome.events("lacks") == []
