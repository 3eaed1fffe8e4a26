"""Small likenesses of the frameworks that the hooks know: what is called, with what, and in which order."""

from __future__ import annotations

_KERAS = """
class Callback:
    model = None
    params = None
    def set_model(self, model): self.model = model
    def set_params(self, params): self.params = params
    def on_train_begin(self, logs=None): pass
    def on_train_batch_end(self, batch, logs=None): pass
    def on_epoch_end(self, epoch, logs=None): pass

class CallbackList:
    def __init__(self, callbacks=None, add_history=False, add_progbar=False, model=None, **params):
        if callbacks is None: callbacks = []
        self.callbacks = list(callbacks) if isinstance(callbacks, (list, tuple)) else [callbacks]
        for callback in self.callbacks:
            assert callback is not None and not isinstance(callback, list)
            callback.set_model(model)
            callback.set_params(params)
    def call(self, name, *arguments):
        for callback in self.callbacks: getattr(callback, name)(*arguments)

class Rate:
    def __float__(self): return 0.125

class Optimizer:
    name = "sgd"
    learning_rate = Rate()

class Model:
    optimizer = Optimizer()
    loss = "mse"
    def count_params(self): return 5

def fit(model, callbacks, epochs, batches):
    called = CallbackList(callbacks, add_history=True, model=model, epochs=epochs)
    called.call("on_train_begin")
    number = 0
    for epoch in range(epochs):
        for batch in range(batches):
            called.call("on_train_batch_end", batch, {"loss": batch})
        called.call("on_epoch_end", epoch, {"loss": 1 / (epoch + 1), "val_loss": 2 / (epoch + 1)})
"""

_LIGHTNING_TRAINER = """
from {package}.loggers.utilities import _log_hyperparams
from {package}.trainer.connectors.logger_connector import _LoggerConnector

class Loop:
    _batches_that_stepped = 5

class FitLoop:
    epoch_loop = Loop()

class Module:
    _log_hyperparams = True
    hparams_initial = {{"rate": 0.1, "hidden": 8, "_class_path": "x"}}

class Trainer:
    is_global_zero = True
    current_epoch = 2
    fit_loop = FitLoop()
    datamodule = None
    lightning_module = Module()
    def __init__(self, loggers):
        self.loggers = loggers
        self.handed = []
        self._logger_connector = _LoggerConnector(self)
    def fit(self):
        _log_hyperparams(self)
        log = self._logger_connector.log_metrics
        log({{"train_loss": 0.5, "group": {{"a": 1}}}})
        log({{"val_loss": 0.25}}, step=9)
        log({{"val_loss": 0.125, "step": 40.0}})
        log({{}})
"""

_LOGGER_CONNECTOR = """
class _LoggerConnector:
    def __init__(self, trainer): self.trainer = trainer
    def log_metrics(self, metrics, step=None):
        if not self.trainer.loggers or not metrics: return
        self.trainer.handed.append((metrics, step))
"""

_LR_MONITOR = """
class LearningRateMonitor:
    def _extract_stats(self, trainer, interval): return {"lr-SGD": 0.1} if interval == "epoch" else {}
"""

_FABRIC = """
class Fabric:
    is_global_zero = True
    def log(self, name, value, step=None): self.log_dict(metrics={name: value}, step=step)
    def log_dict(self, metrics, step=None): pass
"""

_TRANSFORMERS = """
from transformers.trainer_callback import TrainerCallback

class Eater(TrainerCallback):
    def on_log(self, args, state, control, logs=None, **words): logs.pop("total_flos", None)

class State:
    is_world_process_zero = True

class Kind:
    value = "linear"

class Arguments:
    learning_rate, lr_scheduler_type, num_train_epochs, max_steps, bf16, fp16 = 1e-3, Kind(), 3, -1, True, False

class Trainer:
    def __init__(self, model=None, args=None):
        self.model, self.args = model, args or Arguments()
        self.callbacks = [Eater()]
        self.state = State()
        self.state.log_history = []
    def add_callback(self, callback): self.callbacks.append(callback)
    def log(self, step, logs):
        self.state.global_step = step
        self.state.log_history.append({**logs, "step": step})
        for callback in self.callbacks: callback.on_log(self.args, self.state, None, logs=logs)
    def train(self):
        for callback in self.callbacks: callback.on_train_begin(self.args, self.state, None, model=self.model)
        self.log(10, {"loss": 0.5, "learning_rate": 1e-3, "total_flos": 99, "epoch": 0.5})
        self.log(20, {"eval_loss": 0.75, "epoch": 1})
"""

_ACCELERATE = """
class Accelerator:
    def __init__(self, is_main_process):
        self.is_main_process = is_main_process
        self.logged = []
    def init_trackers(self, project_name, config=None, init_kwargs=None): pass
    def log(self, values, step=None, log_kwargs=None): self.logged.append(step)
"""

_FASTAI = """
class Recorder:
    training = True
    def __init__(self, learn): self.learn = learn
    def before_fit(self):
        self.lrs, self.losses, self.values = [], [], []
        self.metric_names = ["epoch", "train_loss", "valid_loss", "time"]
    def after_batch(self):
        self.lrs.append(0.01)
        self.losses.append(1 / (len(self.losses) + 1))
    def after_epoch(self):
        self.values.append(self.log[1:].copy())
        self.log.append("00:01")

class Learner:
    def __init__(self): self.recorder = Recorder(self)
    def fit(self, epochs):
        self.n_epoch = epochs
        self.recorder.before_fit()
        for epoch in range(epochs):
            for _ in range(2): self.recorder.after_batch()
            self.recorder.log = [epoch, 1 / (epoch + 1), 2 / (epoch + 1)]
            self.recorder.after_epoch()
"""

_XGBOOST_CALLBACK = """
class CallbackContainer:
    def __init__(self, callbacks, metric=None, output_margin=True, is_cv=False):
        self.history, self.is_cv = {}, is_cv
    def after_iteration(self, model, epoch, dtrain, evals):
        for name in evals:
            score = 0.5 / (epoch + 1)
            self.history.setdefault(name, {}).setdefault("rmse", []).append((score, 0.125) if self.is_cv else score)
        return False
"""

_XGBOOST_TRAINING = """
from xgboost.callback import CallbackContainer

def train(params, dtrain, num_boost_round=10, *, evals=None, evals_result=None, callbacks=None):
    container = CallbackContainer(callbacks or [])
    for number in range(num_boost_round):
        if container.after_iteration("model", number, dtrain, evals or []): break
    if evals_result is not None: evals_result.update(container.history)

def cv(params, dtrain, num_boost_round=10):
    container = CallbackContainer([], is_cv=True)
    for number in range(num_boost_round):
        container.after_iteration("model", epoch=number, dtrain=dtrain, evals=["test"])
"""

_LIGHTGBM = """
import collections
CallbackEnv = collections.namedtuple(
    "CallbackEnv", "model params iteration begin_iteration end_iteration evaluation_result_list")

def run(callbacks, rounds, results):
    for number in range(rounds):
        for callback in sorted(callbacks or (), key=lambda one: getattr(one, "order", -1)):
            callback(CallbackEnv(None, {}, number, 0, rounds, results(number)))

def train(params, train_set, num_boost_round=100, valid_sets=None, callbacks=None):
    run(callbacks, num_boost_round, lambda number: [("valid_0", "l2", 0.5 / (number + 1), False)])

def cv(params, train_set, num_boost_round=100, *, callbacks=None):
    run(callbacks, num_boost_round, lambda number: [
        ("cv_agg", "valid l2", 0.5, False, 0.125), ("train", "l1", 0.75, False, 0.25)])
"""

_SUMMARY_WRITER = """
class SummaryWriter:
    def __init__(self, log_dir=None, comment="", purge_step=None, max_queue=10, flush_secs=120, filename_suffix=""):
        self.flush_secs = flush_secs
"""

_TENSORFLOW = """
def create_file_writer_v2(logdir, max_queue=None, flush_millis=None, filename_suffix=None, name=None):
    return flush_millis
"""

FRAMEWORKS = {
    "keras/__init__.py": '__version__ = "3.1"\n',
    "keras/src/callbacks/__init__.py": "from keras.src.callbacks.callback_list import Callback, CallbackList\n",
    "keras/src/callbacks/callback_list.py": _KERAS,
    "tf_keras/__init__.py": '__version__ = "2.16"\n',
    "tf_keras/src/callbacks.py": _KERAS,
    "lightning/__init__.py": '__version__ = "2.6"\n',
    "lightning/pytorch/loggers/utilities.py": "def _log_hyperparams(trainer): pass\n",
    "lightning/pytorch/trainer/connectors/logger_connector.py": _LOGGER_CONNECTOR,
    "lightning/pytorch/trainer/trainer.py": _LIGHTNING_TRAINER.format(package="lightning.pytorch"),
    "lightning/pytorch/callbacks/lr_monitor.py": _LR_MONITOR,
    "lightning/fabric/fabric.py": _FABRIC,
    "pytorch_lightning/__init__.py": '__version__ = "2.6"\n',
    "pytorch_lightning/loggers/utilities.py": "def _log_hyperparams(trainer): pass\n",
    "pytorch_lightning/callbacks/lr_monitor.py": _LR_MONITOR,
    "pytorch_lightning/trainer/connectors/logger_connector.py": _LOGGER_CONNECTOR,
    "pytorch_lightning/trainer/trainer.py": _LIGHTNING_TRAINER.format(package="pytorch_lightning"),
    "transformers/trainer_callback.py": "class TrainerCallback:\n"
    "    def on_log(self, *a, **k): pass\n    def on_train_begin(self, *a, **k): pass\n",
    "transformers/trainer.py": _TRANSFORMERS,
    "transformers/trainer_seq2seq.py": "from .trainer import Trainer\nclass Seq2SeqTrainer(Trainer): pass\n",
    "accelerate/accelerator.py": _ACCELERATE,
    "fastai/__init__.py": '__version__ = "2.8"\n',
    "fastai/learner.py": _FASTAI,
    "xgboost/__init__.py": '__version__ = "3.2"\nfrom .training import cv, train\n',
    "xgboost/callback.py": _XGBOOST_CALLBACK,
    "xgboost/training.py": _XGBOOST_TRAINING,
    "xgboost/sklearn.py": "from .training import train\n"
    'def fit(data): train({}, data, 2, evals=["validation_0"])\n',
    "lightgbm/__init__.py": "from .engine import cv, train\n",
    "lightgbm/engine.py": _LIGHTGBM,
    "torch/utils/tensorboard/writer.py": _SUMMARY_WRITER,
    "tensorboardX/writer.py": _SUMMARY_WRITER,
    "tensorflow/python/ops/summary_ops_v2.py": _TENSORFLOW,
}
