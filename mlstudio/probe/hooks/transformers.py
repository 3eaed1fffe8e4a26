"""Hugging Face Transformers: what the Trainer logs, as its ``log_history`` has it, and the settings that matter."""

from __future__ import annotations

from mlstudio.probe.hooks.report import Reporter, replace

TYPE_CHECKING = False
if TYPE_CHECKING:  # Not imported when it runs: `typing` costs 5 ms.
    from typing import Any, Dict

HOW = "All that the Trainer logs, taken by a callback that was added to it."

_ARGUMENTS = (
    "learning_rate", "lr_scheduler_type", "warmup_steps", "warmup_ratio", "optim", "weight_decay", "max_grad_norm",
    "adam_beta1", "adam_beta2", "adam_epsilon", "per_device_train_batch_size", "per_device_eval_batch_size",
    "gradient_accumulation_steps", "gradient_checkpointing", "num_train_epochs", "max_steps", "label_smoothing_factor",
    "neftune_noise_alpha", "bf16", "fp16", "tf32", "torch_compile", "seed", "data_seed", "world_size", "group_by_length",
)  # fmt: skip
"""Of some 150 settings those that change what is learned, or how fast."""
_UNLESS_SET = frozenset(
    {"warmup_ratio", "label_smoothing_factor", "neftune_noise_alpha", "data_seed", "tf32", "torch_compile",
     "gradient_checkpointing", "group_by_length", "bf16", "fp16"}
)  # fmt: skip
"""Said only where they were set."""


def patch(module: Any) -> None:
    """Add our callback to every Trainer."""
    reporter = Reporter("transformers")
    callback = _callback_class(module.TrainerCallback, reporter)

    def make(original: Any) -> Any:
        @reporter.guarded
        def add(trainer: Any) -> None:
            trainer.add_callback(callback())

        def begin(self: Any, *arguments: Any, **words: Any) -> None:
            original(self, *arguments, **words)
            add(self)

        return begin

    replace(module.Trainer, "__init__", make)


def _callback_class(base: Any, reporter: Reporter) -> Any:
    class MLStudioCallback(base):  # type: ignore[misc]
        """Takes what the Trainer logs."""

        @reporter.guarded
        def on_train_begin(self, args: Any, state: Any, control: Any, **words: Any) -> None:
            if not state.is_world_process_zero:
                return
            reporter.begin("transformers: Trainer", HOW)
            reporter.params({**_settings(args), **_model(words.get("model"))})

        @reporter.guarded
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **words: Any) -> None:
            if not state.is_world_process_zero:
                return
            # Callbacks before us may have taken something out of `logs`.
            last = state.log_history[-1] if state.log_history else None
            values = dict(last if last and last.get("step") == state.global_step else logs or {})
            values.pop("step", None)
            reporter.begin("transformers: Trainer", HOW)
            reporter.log(state.global_step, values)

    return MLStudioCallback


def _settings(args: Any) -> Dict[str, Any]:
    found: Dict[str, Any] = {}
    for name in _ARGUMENTS:
        value = getattr(args, name, None)
        value = getattr(value, "value", value)
        if value is None or (name in _UNLESS_SET and not value):
            continue
        if name == "max_steps" and value < 0:
            continue
        found[name] = value
    return found


def _model(model: Any) -> Dict[str, Any]:
    if model is None:
        return {}
    found: Dict[str, Any] = {"model_class": type(model).__name__}
    config = getattr(model, "config", None)
    for name in ("_name_or_path", "model_type"):
        value = getattr(config, name, None)
        if isinstance(value, str) and value:
            found["model_name" if name == "_name_or_path" else name] = value
    parameters = getattr(model, "parameters", None)
    if parameters is not None:
        found["model_parameters"] = sum(one.numel() for one in parameters())
    return found
