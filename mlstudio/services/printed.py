"""Numbers that scripts print: found in plain lines, with care not to take a setting, a version or a port for a metric.

Two shapes are known: a line that *is* a dictionary (JSON, or Python's, as Hugging Face's Trainer prints), whose
numbers are taken together if one of them is a metric by name; and free text, in which a number is taken if the words
before it are the name of a metric. Some names (``lr``, ``score``, ``error``) mean a metric only beside a step, an
epoch or another metric.
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

LONGEST_LINE = 2048
"""Longer lines are not looked at."""
_MOST_VALUES = 64


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_SURE = _words(
    """
    loss losses acc accuracy auc auroc auprc f1 fbeta precision recall sensitivity specificity rmse mse mae mape rmsle
    logloss bce nll elbo perplexity ppl bpc bpb bleu rouge rouge1 rouge2 rougel meteor wer cer iou miou psnr ssim fid
    ndcg mrr mcc r2 mlogloss merror logloss miou dsc
    """
)
_ONLY_BESIDE = _words(
    """
    lr rate score error err map map50 reward rewards return returns rew norm kl dice cost objective entropy top1 top5
    kappa gap margin fitness
    """
)
_BEFORE = _words(
    """
    train training val valid validation test eval evaluation dev avg average mean best running total final
    smooth smoothed ema epoch batch step cross binary categorical log learning grad gradient episode root squared
    absolute percentage top cumulative class box cls dfl obj seg mask kl reconstruction recon generator discriminator
    gen disc g d actor critic policy value aux mlm nsp ce l1 l2 hinge contrastive triplet dice focal huber
    balanced macro micro weighted overall current last min max
    """
)
_AFTER = _words(
    "step epoch macro micro weighted avg mean sum total score rate norm at k ema raw l lsum mlu ovr ovo"
)
_NUMBERED = _words("acc accuracy loss precision recall hit hits")
# What a loss or an accuracy is of: "loss_cls", "acc_val", "Loss_D". Not "loss_weight", "loss_scale", "loss_fn".
_PARTS = _BEFORE | _words("rpn bbox reg rgb ctr centerness real fake a b x y z iou ner pos dep tok s t")

_NUMBER = (
    r"[-+]?(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?(?![\d,])|\d[\d_]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
    r"|[-+]?(?:nan|NaN|NAN|inf|Inf|INF|infinity|Infinity)"
)
_WORD = r"[A-Za-z][\w'/.@^-]*"
_PAIR = re.compile(
    rf"(?<![\w.?&])(?P<words>{_WORD}(?:[ ]+[A-Za-z(][\w'/.@^-]*\)?){{0,3}})"
    rf"(?P<separator>[ ]*[:=][ ]*|[ ]+(?:is|of)[ ]+|[ ]+)"
    rf"\[?(?P<number>{_NUMBER})(?:/(?P<whole>\d+))?(?P<unit>[ ]?%)?(?=[\s,;|)\]}}]|:\s|\.?$|\.\s)"
)
# A plural ("epochs: 10") is a setting unless a total follows.
_PLURAL = r"(?:s(?=\W*\d+[ ]*/))?\b[ ]*[:=#-]?[ ]*[\[(]?[ ]*"
_EPOCH = re.compile(
    rf"(?i)\bepoch{_PLURAL}(\d+(?:\.\d+)?)(?:[ ]*(?:/|of)[ ]*(\d+))?(?![\d.]*[ ]*(?:s\b|sec|ms\b|min))"
)
_STEP = re.compile(
    rf"(?i)(?:\b(?:global[_ ]?step|step|iter(?:ation)?|update|batch|round|it|episode|ep){_PLURAL}"
    r"|\b(?:num_updates|(?:num_|total_)timesteps)[ ]*[:=|][ ]*)"
    r"(\d+)(?:[ ]*(?:/|of)[ ]*(\d+))?(?!\d*\.\d)(?![ ]*(?:it/s|s/it|ms\b))"
)
_AFTER_STEPS = re.compile(
    r"(?i)\b(?:after|at)[ ]+(\d+)[ ]+(batch|step|iteration|iter|update|round|epoch)(?:e?s)?\b"
)
_LEADING = re.compile(r"^\[(\d+)\]\s")
# LightGBM: "[10]  training's l2: 0.5  valid_1's l2: 0.6 + 0.01"
_OF_A_SET = re.compile(rf"(?<!\S)([\w-]{{1,60}})'s ([\w@-]{{1,60}}): ({_NUMBER})(?=[\s,]|$)")
# A loss that was printed without .item(): "tensor(0.1234, device='cuda:0', grad_fn=<NllLossBackward0>)"
_TENSOR = re.compile(rf"\btensor\(({_NUMBER})(?:,[^()]{{0,120}})?\)")
_INNER_COUNT = re.compile(r"[\[(| ](\d+)[ ]?/[ ]*(\d+)\b")
_PART = r"(?:train(?:ing)?|valid(?:ation)?|val|test|eval(?:uation)?|dev)"
# CatBoost: "100:  learn: 0.34  test: 0.41  best: 0.41 (98)"
_LEARN = re.compile(rf"^(\d{{1,9}}):\s+learn: ({_NUMBER})(?:\s+test: ({_NUMBER}))?(?=\s|$)")
# "Accuracy of the network on the 10000 test images: 55 %", "Loss after epoch 3: 0.4", "Best accuracy so far: 0.9"
_OF_SOMETHING = re.compile(
    rf"(?i)(?<![\w.])((?:{_PART} |best |mean |average )*[a-z][\w-]{{1,30}}) "
    rf"(?:of the|on the|so far|(?:after|at)(?= (?:epoch|step|iter)))[^:={{}}]{{0,80}}?(?:\s*[:=]\s*| is )({_NUMBER})"
    r"(?:/(\d+))?(?=[\s%,;.)]|$)"
)
# "LOSS train 0.32 valid 0.36"
_BY_PART = re.compile(
    rf"(?i)^\W*([a-z][\w-]{{1,30}})((?:[ ]+{_PART}[ ]*[:=]?[ ]*(?:{_NUMBER}),?){{2,4}})[ ]*$"
)
_ONE_PART = re.compile(rf"(?i)({_PART})[ ]*[:=]?[ ]*({_NUMBER})")
# "Loss (train): 0.4"
_IN_BRACKETS = re.compile(
    rf"(?i)(?<![\w.])([a-z][\w-]{{1,30}})[ ]?\(({_PART})\)[ ]*[:=]?[ ]*({_NUMBER})(?=[\s%,;|)\]]|$)"
)
# A row of a table of names and numbers: Lightning's results, Stable-Baselines3
_ROW = re.compile(rf"^\s*[|│┃]\s*([A-Za-z][\w/ .@-]{{0,60}}?)\s*[|│┃]\s*({_NUMBER})\s*[|│┃]\s*$")
COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_SETTINGS = re.compile(
    r"^\s*[\w.]*(?:Namespace|Config|Configuration|Args|Arguments|Options|Params|Parameters)\b\w*\s*[(:{=]"
)
_OTHERS = re.compile(r"^(?:\x1b\[[\d;]*m)*wandb(?:\x1b\[[\d;]*m)*:")
"""What Weights & Biases prints is in its file as well."""
_SOURCE_CODE = re.compile(r"^\s{4,}\w+\s*[-+*/]?=\s|^\s*(?:File \"|>>> |\.\.\. |def |self\.|return )")
_HINTS = tuple(
    """
    loss acc epoch auc f1 precision recall rmse mse mae mape nll elbo ppl perplex bleu rouge wer cer iou psnr ssim fid
    ndcg mrr mcc r2 r^2 score err rew return step iter learn dice map fid episode
    """.split()  # noqa: SIM905 — as the lists above
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Printed:
    """What a line says. `inner` tells that the line counts inside an epoch, so that its epoch is no step."""

    values: dict[str, float] = field(default_factory=dict)
    step: int | None = None
    epoch: float | None = None
    total_steps: int | None = None
    total_epochs: int | None = None
    inner: bool = False

    def __bool__(self) -> bool:
        return bool(self.values) or self.epoch is not None or self.step is not None


_NOTHING = Printed()


def parse_line(text: str) -> Printed:
    """The metrics, step and epoch that a printed line names; an empty (false) result for most lines.

    Percentages are taken as they are printed (``acc 91%`` is 91). A line that was redrawn with carriage returns counts
    as its last picture.
    """
    if len(text) > LONGEST_LINE:
        return _NOTHING
    small = text.lower()
    if not any(hint in small for hint in _HINTS) and not ("'s " in small and _LEADING.match(text)):
        return _NOTHING
    text = text.rstrip("\r\n").rpartition("\r")[2]
    if _OTHERS.match(text):
        return _NOTHING
    text = COLOURS.sub("", text)
    stripped = text.strip()
    if stripped.startswith("{") and stripped.endswith("}"):
        return _from_dictionary(stripped)
    if _SETTINGS.match(text) or _SOURCE_CODE.match(text):
        return _NOTHING
    text = text.replace("\t", "  ") if "\t" in text else text
    if stripped.endswith("}") and "{" in text:
        # "epoch 3: {'accuracy': 0.9}"
        before, _, rest = text.partition("{")
        inside = _from_dictionary("{" + rest.rstrip())
        if inside.values:
            place = _from_text(before)
            return replace(
                inside,
                step=inside.step if inside.step is not None else place.step,
                epoch=inside.epoch if inside.epoch is not None else place.epoch,
                total_steps=place.total_steps,
                total_epochs=place.total_epochs,
            )
    return _from_text(_TENSOR.sub(r"\1", text) if "tensor(" in text else text)


def _from_dictionary(text: str) -> Printed:
    try:
        found = json.loads(text)
    except ValueError:
        try:
            found = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return _NOTHING
    except RecursionError:
        return _NOTHING
    if not isinstance(found, dict):
        return _NOTHING
    numbers = {name: value for name, value in _numbers(found) if not _is_setting(name, value)}
    if not any(_rank(name) == 2 for name in numbers):
        return _NOTHING
    step = next(
        (numbers[key] for key in ("step", "global_step", "iteration", "iter") if key in numbers), None
    )
    epoch = numbers.get("epoch")
    values = {
        name: value
        for name, value in numbers.items()
        if name not in ("step", "global_step", "iteration", "iter", "epoch", "time", "timestamp", "ts")
    }
    return Printed(
        values=dict(list(values.items())[:_MOST_VALUES]),
        step=int(step) if step is not None and math.isfinite(step) and abs(step) < 2**53 else None,
        epoch=epoch if epoch is not None and math.isfinite(epoch) else None,
    )


def _numbers(found: dict[object, object], depth: int = 0) -> Iterator[tuple[str, float]]:
    for name, value in found.items():
        if not isinstance(name, str) or isinstance(value, bool):
            continue
        if isinstance(value, (int, float)):
            try:
                yield name, float(value)
            except OverflowError:
                continue
        elif isinstance(value, dict) and depth < 2:
            for inner, number in _numbers(value, depth + 1):
                yield inner if name in ("metrics", "scalars", "losses") else f"{name}/{inner}", number
        elif isinstance(value, str):
            # Newer Trainers print numbers as text: {'loss': '0.6931', …}.
            try:
                yield name, float(value)
            except ValueError:
                continue


def _from_text(text: str) -> Printed:
    epoch, total_epochs = _found(_EPOCH, text)
    step, total_steps = _found(_STEP, text)
    after = _AFTER_STEPS.search(text)
    if after is not None:
        if after.group(2).lower() == "epoch":
            epoch = float(after.group(1))
        else:
            step = float(after.group(1))
    if step is None:
        leading = _LEADING.match(text)
        if leading is not None:
            step = float(leading.group(1))
            sets = {f"{of}/{metric}": float(value) for of, metric, value in _OF_A_SET.findall(text)}
            if sets:
                return Printed(values=dict(list(sets.items())[:_MOST_VALUES]), step=int(step))
    learnt = _LEARN.match(text)
    if learnt is not None:
        parts = {"learn": learnt.group(2), "test": learnt.group(3)}
        return Printed(
            values={name: float(value) for name, value in parts.items() if value is not None},
            step=int(learnt.group(1)),
        )
    sure = _by_part(text)
    beside: dict[str, float] = {}
    for pair in _PAIR.finditer(text):
        name, rank = _name(pair.group("words"), spaced=not pair.group("separator").strip())
        if not rank:
            continue
        value = _real(pair.group("number"))
        if _is_setting(name, value):
            continue
        if pair.group("whole") is not None:
            whole = float(pair.group("whole"))
            if not whole:
                continue
            value /= whole
        (sure if rank == 2 else beside).setdefault(name, value)
    has_place = epoch is not None or step is not None
    values = {**sure, **beside} if sure or has_place else {}
    if not values and epoch is None:
        return _NOTHING
    inner = any(int(count.group(2)) > 1 for count in _INNER_COUNT.finditer(_EPOCH.sub(" ", text)))
    return Printed(
        values=dict(list(values.items())[:_MOST_VALUES]),
        step=int(step) if step is not None else None,
        epoch=epoch,
        total_steps=int(total_steps) if total_steps is not None else None,
        total_epochs=int(total_epochs) if total_epochs is not None else None,
        inner=inner,
    )


def _by_part(text: str) -> dict[str, float]:
    """Numbers that do not stand right behind their names."""
    found: dict[str, float] = {}
    row = _ROW.match(text)
    if row is not None and _rank(row.group(1)):
        return {"_".join(row.group(1).split()).lower(): _real(row.group(2))}
    by_part = _BY_PART.match(text)
    if by_part is not None and _rank(by_part.group(1)) == 2:
        for part, number in _ONE_PART.findall(by_part.group(2)):
            found[f"{part}_{by_part.group(1)}".lower()] = _real(number)
        return found
    for name, part, number in _IN_BRACKETS.findall(text):
        if _rank(name) == 2:
            found[f"{part}_{name}".lower()] = _real(number)
    for name, number, whole in _OF_SOMETHING.findall(text):
        if _rank(name.split()[-1]) == 2:
            value = _real(number) / (float(whole) or math.nan) if whole else _real(number)
            found["_".join(name.split()).lower()] = value
    return found


def _is_setting(name: str, value: float) -> bool:
    """``precision=16`` is how floats are kept, and not how good the model is."""
    return value in (8, 16, 32, 64) and name.rpartition("_")[2] == "precision"


def _real(number: str) -> float:
    return float(number.replace("_", "").replace(",", ""))


def _found(pattern: re.Pattern[str], text: str) -> tuple[float | None, float | None]:
    match = pattern.search(text)
    if match is None or len(match.group(1)) > 15 or len(match.group(2) or "") > 15:
        return None, None
    return float(match.group(1)), float(match.group(2)) if match.group(2) else None


def _name(words: str, *, spaced: bool) -> tuple[str, int]:
    """The name of the metric that the last of `words` are, and how sure that is (0: it is none)."""
    parts = [part.strip("()'.").removesuffix("'s") for part in words.split()]
    while len(parts) > 1 and parts[-1].lower() in ("is", "was", "of"):
        parts.pop()
    rank = _rank(parts[-1])
    if rank < 2 and len(parts) > 1 and _pieces(parts[-1])[-1:] and _pieces(parts[-1])[-1] in _AFTER:
        # "f1 score", "learning rate"
        joined = f"{parts[-2]}_{parts[-1]}"
        better = _rank(joined)
        if better > rank:
            rank = better
            parts[-2:] = [joined]
    if not rank or (spaced and rank < 2):
        return "", 0
    name = [parts.pop()]
    while (
        parts
        and all(piece in _BEFORE or piece.isdigit() for piece in _pieces(parts[-1]))
        and not parts[-1].lower().startswith(("epoch", "step", "batch", "iter"))
    ):
        name.insert(0, parts.pop())
    return "_".join(name).lower().strip("_.-/"), rank


def _rank(name: str) -> int:
    """2: a metric by its name; 1: one only beside a step, an epoch or a metric; 0: none."""
    if "mAP" in name:
        return 2
    return max(_rank_of(_pieces(name)), _rank_of(_plain_pieces(name)))


def _rank_of(pieces: list[str]) -> int:
    if not pieces:
        return 0
    if "".join(pieces) == "r2":
        return 2
    sure = [
        place
        for place, piece in enumerate(pieces)
        if piece in _SURE or piece.endswith(("loss", "accuracy")) or piece.rstrip("0123456789") in _NUMBERED
    ]
    if sure:
        # "loss_weight" is a setting, "loss_step" and "f1_macro" are metrics.
        tail = pieces[sure[-1] + 1 :]
        return 2 if all(piece in _AFTER or piece in _PARTS or piece.isdigit() for piece in tail) else 0
    core = [piece for piece in pieces if piece not in _AFTER] or pieces
    if core[-1] in _ONLY_BESIDE:
        return 1
    return 0


def _pieces(name: str) -> list[str]:
    """The words of a name, ``valLoss`` in two."""
    return _plain_pieces(re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name))


def _plain_pieces(name: str) -> list[str]:
    return [piece for piece in re.split(r"[^A-Za-z0-9]+", name.lower()) if piece]
