"""Hugging Face's Trainer with a tiny GPT-2 made from scratch: what its log_history keeps."""

import json
import os
import warnings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
warnings.simplefilter("ignore")

import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments, set_seed

set_seed(1)


class Data(torch.utils.data.Dataset):
    def __len__(self):
        return 48

    def __getitem__(self, number):
        row = (torch.arange(16) * (number % 5 + 1)) % 50
        return {"input_ids": row, "labels": row}


model = GPT2LMHeadModel(
    GPT2Config(vocab_size=50, n_positions=16, n_embd=16, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0)
)
trainer = Trainer(
    model,
    TrainingArguments(
        "out",
        num_train_epochs=3,
        per_device_train_batch_size=8,
        learning_rate=5e-3,
        logging_steps=2,
        eval_strategy="epoch",
        save_strategy="no",
        report_to=["tensorboard"],
        use_cpu=True,
        disable_tqdm=True,
    ),
    train_dataset=Data(),
    eval_dataset=Data(),
)
trainer.train()
stored: dict[str, list[tuple[int, float]]] = {}
for entry in trainer.state.log_history:
    for name, value in entry.items():
        if name != "step":
            stored.setdefault(name, []).append((entry["step"], float(value)))
with open("stored.json", "w") as file:
    json.dump({"transformers": stored}, file)
