"""Train the feature network on all of Fashion-MNIST: data/features.safetensors and its card (4 minutes)."""

from __future__ import annotations

import hashlib
import json
import time

import torch
from safetensors.torch import save_file
from torch.nn.functional import cross_entropy

from devilgan_lite.data import data_folder, fashion_mnist
from devilgan_lite.features import FeatureNetwork
from devilgan_lite.generators.dcgan import seeded


def main(epochs: int = 10, batch_size: int = 128, seed: int = 0) -> None:
    train, test = fashion_mnist("full"), fashion_mnist("full", split="test")
    network = seeded(seed, FeatureNetwork)
    steps = epochs * (len(train) // batch_size)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-3, total_steps=steps)
    random = torch.Generator().manual_seed(seed)
    start = time.process_time()
    for epoch in range(epochs):
        network.train()
        for chosen in torch.randperm(len(train), generator=random).split(batch_size)[: steps // epochs]:
            loss = cross_entropy(network(train.x[chosen]), train.labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        network.eval()
        with torch.no_grad():
            guess = torch.cat([network(part).argmax(1) for part in test.x.split(500)])
        accuracy = (guess == test.labels).float().mean().item()
        print(f"epoch {epoch + 1}: test accuracy {accuracy:.4f}, {time.process_time() - start:.0f} CPU-s", flush=True)
    path = data_folder() / "features.safetensors"
    save_file(network.state_dict(), path)
    card = {
        "architecture": "FeatureNetwork",
        "data": train.name,
        "seed": seed,
        "epochs": epochs,
        "test_accuracy": round(accuracy, 4),
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "licence": "MIT",
    }
    (data_folder() / "features.json").write_text(json.dumps(card, indent=2) + "\n")


if __name__ == "__main__":
    main()
