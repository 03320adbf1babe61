"""Train the feature networks on garments, faces, drums and a piano: data/*features*.safetensors and their cards.

    features.py [fashion | faces | faces-64 | drums | piano]

Without a name, all (4, 8, 20 minutes and half a minute each). The faces have seeds of their own, which no generator is
trained on; drums and notes are tested on the strokes and keys that are held out.
"""

import argparse
import hashlib
import json
import time
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import cross_entropy

from devilgan_lite.data import data_folder, drums, faces, fashion_mnist, piano
from devilgan_lite.data.faces import ATTRIBUTES
from devilgan_lite.features import NETWORKS, FeatureNetwork
from devilgan_lite.generators.base import seeded


def sets(kind: str) -> tuple[tuple[str, Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Name, pictures and labels ``[n, questions]`` to train on; pictures and labels to test on."""
    if kind == "fashion":
        train, test = fashion_mnist("full"), fashion_mnist("full", split="test")
        assert train.labels is not None and test.labels is not None
        return (train.name, train.x, train.labels[:, None]), (test.x, test.labels[:, None])
    if kind in ("drums", "piano"):
        made, speed = {"drums": (drums, 0.3), "piano": (piano, 0.03)}[kind]  # half a semitone: a piano is in tune
        heard, unheard = made(12_000, speed=speed, seed=100), made(2_000, split="held-out", seed=101)
        assert heard.labels is not None and unheard.labels is not None
        return (heard.name, heard.x, heard.labels[:, None]), (unheard.x, unheard.labels[:, None])
    size = NETWORKS[kind].shape[1]
    seen, unseen = faces(20_000, size=size, seed=100), faces(4_000, size=size, seed=101)
    return (seen.name, seen.x, seen.attributes), (unseen.x, unseen.attributes)


EPOCHS = {"drums": 2, "piano": 2}  # 61 strokes and 90 notes are soon known by heart; otherwise 10


def main(kind: str, batch_size: int = 128, seed: int = 0) -> None:
    (name, x, labels), (test_x, test_labels) = sets(kind)
    network, epochs = seeded(seed, FeatureNetwork, kind), EPOCHS.get(kind, 10)
    steps = epochs * (len(x) // batch_size)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-3, total_steps=steps)
    random = torch.Generator().manual_seed(seed)
    start = time.process_time()
    for epoch in range(epochs):
        network.train()
        for chosen in torch.randperm(len(x), generator=random).split(batch_size)[: steps // epochs]:
            answers = network(x[chosen]).split(network.classes, dim=1)
            loss = sum(cross_entropy(a, labels[chosen, k]) for k, a in enumerate(answers)) / len(answers)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        network.eval()
        with torch.no_grad():
            logits = torch.cat([network(part) for part in test_x.split(500)])
        guesses = torch.stack([answer.argmax(1) for answer in logits.split(network.classes, dim=1)], dim=1)
        accuracies = (guesses == test_labels).float().mean(0).tolist()
        accuracy = sum(accuracies) / len(accuracies)
        print(f"epoch {epoch + 1}: test accuracy {accuracy:.4f}, {time.process_time() - start:.0f} CPU-s", flush=True)
    path = data_folder() / f"{NETWORKS[kind].file}.safetensors"
    save_file(network.state_dict(), path)
    card: dict[str, Any] = {
        "architecture": "FeatureNetwork",
        "data": name,
        "seed": seed,
        "epochs": epochs,
        "test_accuracy": round(accuracy, 4),
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "licence": "MIT",
    }
    if len(network.classes) > 1:
        card["test_accuracies"] = dict(zip(ATTRIBUTES, (round(value, 4) for value in accuracies), strict=True))
    path.with_suffix(".json").write_text(json.dumps(card, indent=2) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("kind", nargs="?", choices=list(NETWORKS))
    asked = parser.parse_args().kind
    torch.set_num_threads(1)
    for one in [asked] if asked else list(NETWORKS):
        main(one)
