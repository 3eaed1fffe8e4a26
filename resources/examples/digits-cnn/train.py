"""Learn to read handwritten digits: a small convolutional network on scikit-learn's 1,797 pictures of 8 × 8 pixels.

python train.py --epochs 30 --lr 0.002
"""

import argparse

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.nn import functional

try:
    from mlstudio import log, param
except ImportError:  # Without ML Studio the script trains all the same; nobody records it.
    log = param = lambda *args, **values: None


class DigitsNet(nn.Module):
    """Two convolutions, two dense layers."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, padding=1),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(2 * width * 16, 64),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(64, 10),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layers(images)


def shifted(images: torch.Tensor) -> torch.Tensor:
    """The batch moved by up to one pixel in any direction, so that the network does not learn it by heart."""
    padded = functional.pad(images, (1, 1, 1, 1))
    down, right = torch.randint(0, 3, (2,)).tolist()
    return padded[:, :, down : down + 8, right : right + 8]


@torch.no_grad()
def evaluate(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> tuple[float, float]:
    """Mean loss and accuracy over all of `images`."""
    model.eval()
    scores = model(images)
    loss = functional.cross_entropy(scores, labels).item()
    return loss, (scores.argmax(dim=1) == labels).float().mean().item()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=30, help="how often to go through the training set")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument(
        "--lr", type=float, default=0.002, help="highest learning rate (it warms up and decays)"
    )
    parser.add_argument("--width", type=int, default=32, help="channels of the first convolution")
    parser.add_argument("--dropout", type=float, default=0.3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"

    images, labels = load_digits(return_X_y=True)
    split = train_test_split(images, labels, test_size=0.25, random_state=args.seed, stratify=labels)
    train_x, val_x = (
        torch.tensor(part, dtype=torch.float32, device=device).view(-1, 1, 8, 8) / 16 for part in split[:2]
    )
    train_y, val_y = (torch.tensor(part, dtype=torch.long, device=device) for part in split[2:])

    model = DigitsNet(args.width, args.dropout).to(device)
    steps_per_epoch = -(-len(train_x) // args.batch_size)
    steps = args.epochs * steps_per_epoch
    optimiser = torch.optim.AdamW(model.parameters(), lr=args.lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=args.lr, total_steps=steps)
    parameters = sum(weights.numel() for weights in model.parameters())
    param(vars(args) | {"model_parameters": parameters, "device": device})
    print(
        f"{len(train_x)} pictures to learn from, {len(val_x)} to check; {parameters} parameters on {device}"
    )

    step = 0
    for epoch in range(1, args.epochs + 1):
        model.train()
        order = torch.randperm(len(train_x), device=device)
        right = 0
        for batch in order.split(args.batch_size):
            scores = model(shifted(train_x[batch]))
            loss = functional.cross_entropy(scores, train_y[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            step += 1
            right += int((scores.argmax(dim=1) == train_y[batch]).sum())
            log({"train/loss": loss.item(), "learning_rate": schedule.get_last_lr()[0]}, step=step)

        val_loss, val_accuracy = evaluate(model, val_x, val_y)
        train_accuracy = right / len(train_x)
        log(
            {"val/loss": val_loss, "val/accuracy": val_accuracy, "train/accuracy": train_accuracy},
            step=step,
            epoch=epoch,
        )
        print(
            f"epoch {epoch}/{args.epochs}  val_loss {val_loss:.4f}  val_accuracy {val_accuracy:.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
