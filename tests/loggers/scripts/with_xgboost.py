"""XGBoost by its scikit-learn class, with early stopping: what evals_result() keeps."""

import json

import numpy as np
import xgboost

random = np.random.default_rng(1)
inputs = random.normal(size=(400, 6))
targets = (inputs.sum(axis=1) + random.normal(size=400) > 0).astype(int)
model = xgboost.XGBClassifier(
    n_estimators=60,
    max_depth=3,
    learning_rate=0.4,
    eval_metric=["logloss", "auc"],
    early_stopping_rounds=10,
    n_jobs=1,
)
model.fit(
    inputs[:300],
    targets[:300],
    eval_set=[(inputs[:300], targets[:300]), (inputs[300:], targets[300:])],
    verbose=False,
)
stored = {
    f"{data}/{name}": list(enumerate(map(float, values)))
    for data, metrics in model.evals_result().items()
    for name, values in metrics.items()
}
with open("stored.json", "w") as file:
    json.dump({"xgboost": stored}, file)
