"""LightGBM by its scikit-learn class, with early stopping: what evals_result_ keeps."""

import json
import warnings

import lightgbm
import numpy as np

warnings.simplefilter("ignore")
random = np.random.default_rng(1)
inputs = random.normal(size=(400, 6))
targets = inputs.sum(axis=1) + random.normal(size=400)
model = lightgbm.LGBMRegressor(n_estimators=60, num_leaves=7, learning_rate=0.3, n_jobs=1, verbose=-1)
model.fit(
    inputs[:300],
    targets[:300],
    eval_set=[(inputs[:300], targets[:300]), (inputs[300:], targets[300:])],
    eval_metric=["l2", "l1"],
    callbacks=[lightgbm.early_stopping(10, verbose=False)],
)
stored = {
    f"{data}/{name}": list(enumerate(map(float, values)))
    for data, metrics in model.evals_result_.items()
    for name, values in metrics.items()
}
with open("stored.json", "w") as file:
    json.dump({"lightgbm": stored}, file)
