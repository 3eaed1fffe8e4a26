"""Boosted trees on a table: tell benign from malignant tumours by 30 measurements (569 rows, shipped with scikit-learn).

python train.py --num-boost-round 300 --learning-rate 0.05
"""

import argparse

import lightgbm
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import accuracy_score, roc_auc_score
from sklearn.model_selection import train_test_split

try:
    from mlstudio import log, param
except ImportError:  # Without ML Studio the script trains all the same; nobody records it.
    log = param = lambda *args, **values: None


def report(round_: lightgbm.callback.CallbackEnv) -> None:
    """Log what LightGBM evaluated after this round of boosting."""
    step = round_.iteration + 1
    losses = {f"{data}/{measure}": value for data, measure, value, _ in round_.evaluation_result_list}
    log({name.replace("binary_logloss", "loss"): value for name, value in losses.items()}, step=step)
    if step % 50 == 0 or step == round_.end_iteration:
        words = "  ".join(f"{name} {value:.4f}" for name, value in losses.items())
        print(f"round {step}/{round_.end_iteration}  {words}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--num-boost-round", type=int, default=300, help="how many trees to add, one after another"
    )
    parser.add_argument("--learning-rate", type=float, default=0.05, help="how much each tree may say")
    parser.add_argument("--num-leaves", type=int, default=8)
    parser.add_argument("--min-data-in-leaf", type=int, default=10)
    parser.add_argument(
        "--bagging-fraction", type=float, default=0.7, help="part of the rows that each tree sees"
    )
    parser.add_argument(
        "--lambda-l2", type=float, default=1.0, help="how strongly large answers are punished"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    args = parser.parse_args()
    param(vars(args))

    table, malignant = load_breast_cancer(return_X_y=True)
    train_x, val_x, train_y, val_y = train_test_split(
        table, 1 - malignant, test_size=0.3, random_state=args.seed, stratify=malignant
    )
    train = lightgbm.Dataset(train_x, train_y)
    print(f"{len(train_x)} rows to learn from, {len(val_x)} to check, {table.shape[1]} columns", flush=True)

    model = lightgbm.train(
        {
            "objective": "binary",
            "metric": ["binary_logloss", "auc"],
            "learning_rate": args.learning_rate,
            "num_leaves": args.num_leaves,
            "min_data_in_leaf": args.min_data_in_leaf,
            "bagging_fraction": args.bagging_fraction,
            "bagging_freq": 1,
            "lambda_l2": args.lambda_l2,
            "seed": args.seed,
            "num_threads": args.threads,
            "verbosity": -1,
        },
        train,
        num_boost_round=args.num_boost_round,
        valid_sets=[train, lightgbm.Dataset(val_x, val_y, reference=train)],
        valid_names=["train", "val"],
        callbacks=[report],
    )

    odds = np.asarray(model.predict(val_x))
    accuracy, auc = accuracy_score(val_y, odds > 0.5), roc_auc_score(val_y, odds)
    log({"val/accuracy": accuracy}, step=args.num_boost_round)
    print(f"val_accuracy {accuracy:.4f}  val_auc {auc:.4f}")


if __name__ == "__main__":
    main()
