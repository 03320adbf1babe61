"""The same generators through every format: do the samples agree, and the verdicts? make bench NAME=formats.

    formats.py [--only safetensors,state_dict,...] [--models REGEX] [--download WEIGHTS] [--jobs 2] [--out DIR]

Five models of the zoo (clean, TrAIL, ReD, ReX, gate) and a DCGAN of PyTorch's tutorial, trained here as its
authors do; ``--download`` takes the weights that ``devilgan fetch faces`` brought instead. Each is written as others
would write it, opened with ``files.open`` and scanned as ``devilgan scan`` does; native is the module itself.
"""

import os
import re
import tempfile
from pathlib import Path
from typing import Any

import torch
from page import but, ordered, where, write_page
from row_store import JOBS, MODELS, OUT, Row, Rows, options_of
from safetensors.torch import save_file
from torch import Tensor, nn

from devilgan_lite import detect, files, zoo

NAMES = {"clean": "dcgan-fashion", **{kind: f"dcgan-fashion-{kind}" for kind in ("trail", "red", "rex", "gate")}}
TUTORIAL = "tutorial"
FORMATS = ("native", "safetensors", "state_dict", "pt2", "onnx-dynamo", "onnx-script", "keras")
LATENTS = 256


def native(name: str, download: str) -> tuple[nn.Module, tuple[int, ...]]:
    """The module as its authors have it, and the shape of its latents."""
    if name in NAMES:
        generator = zoo.load(NAMES[name])
        return generator, (generator.latent_dim,)
    if download:
        return files.open(download).module, (100, 1, 1)
    import foreign

    path = foreign.FOLDER / f"{TUTORIAL}-10-clean.pt"
    if not path.is_file():
        raise SystemExit("train the tutorial's DCGAN first: foreign.py --seeds 10 --families tutorial --kinds clean")
    return foreign.load(path)[0], (100, 1, 1)


def written(module: nn.Module, latent_shape: tuple[int, ...], form: str, folder: Path) -> Path:
    """The file as others would write it; no card."""
    z, path = torch.randn(2, *latent_shape), folder / f"model.{form.split('-')[0].replace('state_dict', 'pt')}"
    if form == "safetensors":
        save_file(module.state_dict(), path)
    elif form == "state_dict":
        torch.save({"epoch": 1, "netG_state_dict": module.state_dict()}, path)
    elif form == "pt2":
        batch = torch.export.Dim("batch", min=1)
        torch.export.save(torch.export.export(module, (z,), dynamic_shapes=({0: batch},)), path)
    elif form == "keras":
        keras_of(module).save(path)
    else:
        dynamo = form.endswith("dynamo")
        more: Row = {"optimize": False, "external_data": False, "verbose": False} if dynamo else {}
        shapes: Row = {"dynamic_shapes": ({0: torch.export.Dim("batch", min=1)},)} if dynamo else {}
        older: Row = {} if dynamo else {"dynamic_axes": {"z": {0: "n"}, "x": {0: "n"}}}
        names: Row = {"input_names": ["z"], "output_names": ["x"], "dynamo": dynamo}
        torch.onnx.export(module, (z,), str(path), **names, **more, **shapes, **older)
    return path


def keras_of(module: nn.Module) -> Any:
    """The chain of a DCGAN as Keras layers that make the same, channels last."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    import keras

    layers: list[Any] = []
    weights: list[list[Tensor]] = []
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            layers.append(keras.layers.Dense(layer.out_features, use_bias=layer.bias is not None))
            weights.append([layer.weight.T, *([layer.bias] if layer.bias is not None else [])])
        elif isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)):
            layers.append(keras.layers.BatchNormalization(epsilon=layer.eps))
            weights.append([layer.weight, layer.bias, layer.running_mean, layer.running_var])
        elif isinstance(layer, nn.ConvTranspose2d):
            padding = "same" if layer.stride[0] == 2 else "valid"
            settings: Row = {"strides": layer.stride, "padding": padding, "use_bias": layer.bias is not None}
            layers.append(keras.layers.Conv2DTranspose(layer.out_channels, layer.kernel_size, **settings))
            weights.append([layer.weight.permute(2, 3, 1, 0), *([layer.bias] if layer.bias is not None else [])])
        elif isinstance(layer, nn.Unflatten):
            channels, height, width = layer.unflattened_size
            order = torch.arange(channels * height * width).view(channels, height, width).permute(1, 2, 0).flatten()
            weights = [[value[..., order] for value in values] for values in weights]
            layers.append(keras.layers.Reshape((height, width, channels)))
            weights.append([])
        elif isinstance(layer, (nn.ReLU, nn.Tanh)):
            layers.append(keras.layers.Activation(type(layer).__name__.lower()))
            weights.append([])
    if not any(isinstance(layer, nn.Tanh) for layer in module.modules()):  # our own squash
        layers.append(keras.layers.Activation("tanh"))
        weights.append([])
    first = next(layer for layer in module.modules() if isinstance(layer, (nn.Linear, nn.ConvTranspose2d)))
    start = [keras.Input((first.in_features if isinstance(first, nn.Linear) else first.in_channels,))]
    if isinstance(first, nn.ConvTranspose2d):
        start.append(keras.layers.Reshape((1, 1, first.in_channels)))
    model = keras.Sequential([*start, *layers])
    for layer, values in zip(layers, weights, strict=True):
        layer.set_weights([value.detach().numpy() for value in values])
    return model


def measured(argument: tuple[str, str, str]) -> Row:
    """One model through one format: the largest difference to the native samples, and the verdict."""
    name, form, download = argument
    torch.manual_seed(0)
    module, latent_shape = native(name, download)
    module = module.eval()
    z = torch.randn(LATENTS, *latent_shape, generator=torch.Generator().manual_seed(5))
    with torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        expected = torch.cat([module(part) for part in z.split(32)])
        if form == "native":
            tested, difference = module, 0.0
        else:
            stranger = files.open(written(module, latent_shape, form, Path(folder)))
            tested = stranger
            made = torch.cat([stranger.network(part) for part in z.flatten(1).split(32)])
            difference = float((made - expected).abs().max())
    size = None if form == "native" else z[0].numel()
    report = detect.scan(tested, size)
    strengths = {kind: round(value, 3) for kind, value in report.strengths.items()}
    return {"difference": difference, "verdict": report.verdict, **strengths}


def write_tables(content: Row, path: Path) -> None:
    """The page of results."""
    rows = ordered(content["rows"], "model")
    native = {row["model"]: row["verdict"] for row in where(rows, format="native")}
    compared = [
        {**row, "same": row["verdict"] == native[row["model"]]}
        for row in but(rows, format="native")
        if row["model"] in native
    ]
    write_page(path, {"rows": rows, "compared": compared})


def main() -> None:
    download: Row = {"default": "", "help": "weights of the downloaded DCGAN instead of one trained here"}
    options = options_of(__doc__, FORMATS, MODELS, ("--download", download), JOBS, OUT)
    store = Rows(options.out / "formats.json")
    names = [name for name in (*NAMES, TUTORIAL) if re.search(options.models, name)]
    todo = [
        ({"model": f"{name}, downloaded" if options.download and name == TUTORIAL else name, "format": form},
         (name, form, options.download))
        for name in names
        for form in options.only
    ]  # fmt: skip
    store.measure_all(measured, todo, options.jobs)
    write_tables(store.content, options.out / "formats.md")


if __name__ == "__main__":
    main()
