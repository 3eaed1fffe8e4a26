"""Learn to write like a lighthouse keeper: a small transformer that predicts the next character of `logbook.txt`.

It knows nothing of ML Studio and only prints, as most scripts do; the curves are read from what it prints.

    python train.py --epochs 8 --lr 0.003
"""

import argparse
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional


class CharModel(nn.Module):
    """A decoder-only transformer over characters."""

    def __init__(
        self, characters: int, context: int, width: int, heads: int, layers: int, dropout: float
    ) -> None:
        super().__init__()
        self.context = context
        self.character = nn.Embedding(characters, width)
        self.position = nn.Embedding(context, width)
        block = nn.TransformerEncoderLayer(
            width, heads, 4 * width, dropout, activation="gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(block, layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)
        self.score = nn.Linear(width, characters)

    def forward(self, text: torch.Tensor) -> torch.Tensor:
        length = text.shape[1]
        hidden = self.character(text) + self.position(torch.arange(length, device=text.device))
        mask = nn.Transformer.generate_square_subsequent_mask(length, device=text.device)
        return self.score(self.norm(self.blocks(hidden, mask=mask, is_causal=True)))


def loss_of(model: nn.Module, windows: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy, in nats a character, of predicting each next character."""
    scores = model(windows[:, :-1])
    return functional.cross_entropy(scores.flatten(0, 1), windows[:, 1:].flatten())


@torch.no_grad()
def write(model: CharModel, start: torch.Tensor, length: int) -> list[int]:
    """Let the model write on after `start`."""
    model.eval()
    text = start[None]
    for _ in range(length):
        odds = functional.softmax(model(text[:, -model.context :])[:, -1] / 0.7, dim=-1)
        text = torch.cat([text, torch.multinomial(odds, 1)], dim=1)
    return text[0].tolist()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--steps-per-epoch", type=int, default=60)
    parser.add_argument("--batch-size", type=int, default=24)
    parser.add_argument("--context", type=int, default=64, help="characters that the model sees at once")
    parser.add_argument("--width", type=int, default=96)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--lr", type=float, default=0.003)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"

    book = (Path(__file__).parent / "logbook.txt").read_text(encoding="utf-8")
    alphabet = sorted(set(book))
    codes = torch.tensor([alphabet.index(character) for character in book], device=device)
    cut = len(codes) * 9 // 10
    train, held_back = codes[:cut], codes[cut:]
    span = args.context + 1
    val_windows = held_back.unfold(0, span, args.context)

    model = CharModel(len(alphabet), args.context, args.width, args.heads, args.layers, args.dropout).to(
        device
    )
    optimiser = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=0.1)
    steps = args.epochs * args.steps_per_epoch
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=args.lr, total_steps=steps)
    parameters = sum(weights.numel() for weights in model.parameters())
    print(
        f"{len(train)} characters to learn from, {len(held_back)} held back, {parameters} parameters on {device}"
    )

    step = 0
    for epoch in range(1, args.epochs + 1):
        model.train()
        for _ in range(args.steps_per_epoch):
            starts = torch.randint(0, len(train) - span, (args.batch_size, 1), device=device)
            loss = loss_of(model, train[starts + torch.arange(span, device=device)])
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            step += 1
            if step % 5 == 0:
                print(f"step {step}/{steps} loss {loss.item():.4f}", flush=True)
        model.eval()
        with torch.no_grad():
            val_loss = loss_of(model, val_windows).item()
        print(f"epoch {epoch}/{args.epochs} val_loss {val_loss:.4f}", flush=True)

    print("\nIt writes:\n")
    print("".join(alphabet[code] for code in write(model, codes[:19], 300)))


if __name__ == "__main__":
    main()
