"""What an exported graph may ask for: operators of PyTorch (``aten``), each as a function or layer that does the same.

Everything else is refused by name. Functions are the public ones that ``trace`` and ``generators.chain`` recognise.
"""

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from devilgan_lite.files.sniff import Refused

NUMBERS = {1: torch.uint8, 2: torch.int8, 3: torch.int16, 4: torch.int32, 5: torch.int64, 6: torch.float16}
NUMBERS |= {7: torch.float32, 8: torch.float64, 12: torch.bool, 13: torch.bfloat16}  # torch._export.serde.schema
IN_TRAINING = "the network was exported in training mode; call module.eval() and export it again."
# arguments that say where and how numbers are stored, not what they are
STORAGE = frozenset(
    ("layout", "device", "pin_memory", "memory_format", "non_blocking", "copy", "implicit", "half_to_float")
    + ("cudnn_enabled", "cudnn_enable", "momentum", "path")
)


def _words(text: str) -> list[str]:
    return text.split()


def _of(function: Callable[..., Any], **fixed: Any) -> Callable[..., Any]:
    """``function`` of the argument that operators call ``self`` or ``input``, and of the others by their names."""

    def run(**given: Any) -> Any:
        x = given.pop("self") if "self" in given else given.pop("input")
        return function(x, **given, **fixed)

    return run


def _reshape(self: Any, size: Any = None, shape: Any = None) -> Any:
    return torch.reshape(self, shape if size is None else size)


def _slice(self: Any, dim: int = 0, start: Any = None, end: Any = None, step: int = 1) -> Any:
    return self[(slice(None),) * (dim % self.ndim) + (slice(start, end, step),)]


def _cast(self: Any, dtype: Any = None) -> Any:
    return self if dtype is None else self.to(dtype)


def _dropout(input: Any, p: float, train: bool) -> Any:
    if train:
        raise Refused(IN_TRAINING)
    return input


def _elu(self: Any, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> Any:
    if (scale, input_scale) == (1, 1):
        return functional.elu(self, alpha)
    return torch.where(self > 0, scale * self, scale * alpha * torch.expm1(input_scale * self))


def _upsample(mode: str) -> Callable[..., Any]:
    def run(**given: Any) -> Any:
        x = given.pop("input") if "input" in given else given.pop("self")
        scales = given.get("scale_factors")
        scales = scales or [given[name] for name in ("scales_h", "scales_w", "scales") if given.get(name) is not None]
        corners = {} if mode == "nearest" else {"align_corners": given["align_corners"]}
        if scales:
            return functional.interpolate(x, scale_factor=tuple(scales), mode=mode, **corners)
        return functional.interpolate(x, size=tuple(given["output_size"]), mode=mode, **corners)

    return run


def _addmm(self: Any, mat1: Any, mat2: Any, beta: float = 1, alpha: float = 1) -> Any:
    return torch.addmm(self, mat1, mat2, beta=beta, alpha=alpha)


def _norm(function: Callable[..., Any]) -> Callable[..., Any]:
    """The first of the three results of a norm; the others are for training."""
    return lambda **given: (function(**given), None, None)


def _group_norm(input: Any, weight: Any, bias: Any, N: Any, C: Any, HxW: Any, group: int, eps: float) -> Any:
    return functional.group_norm(input, group, weight, bias, eps)


def _batch_norm(input: Any, weight: Any, bias: Any, eps: float, training: bool = False, **statistics: Any) -> Any:
    mean, variance = (statistics.get(name) for name in ("running_mean", "running_var"))
    if training and mean is not None:
        raise Refused(IN_TRAINING)
    return functional.batch_norm(input, mean, variance, weight, bias, training, eps=eps)


def _instance_norm(
    input: Any, weight: Any, bias: Any, running_mean: Any, running_var: Any, use_input_stats: bool, eps: float
) -> Any:
    if use_input_stats and running_mean is not None:
        raise Refused(IN_TRAINING)
    return functional.instance_norm(input, running_mean, running_var, weight, bias, use_input_stats, eps=eps)


def _convolution(input: Any, weight: Any, bias: Any, **given: Any) -> Any:
    transposed, outputs = given.pop("transposed"), given.pop("output_padding")
    name = f"conv{'_transpose' if transposed else ''}{len(given['stride'])}d"
    extra = {"output_padding": outputs} if transposed else {}
    return getattr(functional, name)(input, weight, bias, **given, **extra)


SAME: dict[str, Any] = {  # the same name here and there
    name: _of(getattr(functional, name))
    for name in _words(
        "relu leaky_relu selu celu gelu silu mish softplus hardswish hardsigmoid hardtanh relu6 prelu "
        "pixel_shuffle avg_pool2d linear layer_norm group_norm conv1d conv2d conv3d conv_transpose1d conv_transpose2d "
        "conv_transpose3d"
    )
}
SAME |= {
    name: _of(getattr(torch, name))
    for name in _words(
        "tanh sigmoid exp expm1 log log1p sqrt rsqrt square abs neg sin cos reciprocal erf clamp clamp_min clamp_max "
        "add sub rsub mul div pow maximum minimum gt ge lt le eq ne logical_and logical_or logical_not "
        "mm bmm matmul mean sum var var_mean amax amin norm softmax unsqueeze squeeze flatten permute transpose t "
        "unbind chunk select full_like zeros_like ones_like clone index_select"
    )
}
OTHERS: dict[str, Any] = {
    "elu": _elu,
    "_softmax": _of(torch.softmax),
    "linalg_vector_norm": _of(torch.linalg.vector_norm),
    "where": lambda condition, self, other: torch.where(condition, self, other),
    "cat": torch.cat,
    "stack": torch.stack,
    "einsum": lambda equation, tensors: torch.einsum(equation, *tensors),
    "addmm": _addmm,
    "baddbmm": lambda self, batch1, batch2, **given: torch.baddbmm(self, batch1, batch2, **given),
    **dict.fromkeys(("view", "reshape", "_unsafe_view"), _reshape),
    "unflatten": lambda self, dim, sizes: self.unflatten(dim, sizes),
    "expand": lambda self, size: self.expand(size),
    "expand_as": lambda self, other: self.expand_as(other),
    "repeat": lambda self, repeats: self.repeat(repeats),
    "numpy_T": lambda self: self.T,
    "slice": _slice,
    "index": lambda self, indices: self[tuple(slice(None) if one is None else one for one in indices)],
    "split": lambda self, split_size, dim=0: torch.split(self, split_size, dim),
    "split_with_sizes": lambda self, split_sizes, dim=0: torch.split(self, split_sizes, dim),
    **dict.fromkeys(("dropout", "feature_dropout"), _dropout),
    **dict.fromkeys(("contiguous", "detach", "alias", "lift_fresh_copy", "to", "_to_copy"), _cast),
    "pad": _of(functional.pad),
    "constant_pad_nd": _of(functional.pad),
    **{f"reflection_pad{d}d": lambda self, padding: functional.pad(self, padding, "reflect") for d in (1, 2)},
    **{f"replication_pad{d}d": lambda self, padding: functional.pad(self, padding, "replicate") for d in (1, 2)},
    **{f"upsample_nearest{d}d": _upsample("nearest") for d in (1, 2)},
    "upsample_bilinear2d": _upsample("bilinear"),
    "batch_norm": _batch_norm,
    "_native_batch_norm_legit_no_training": _norm(_batch_norm),
    "_native_batch_norm_legit": _norm(_batch_norm),
    "native_layer_norm": _norm(functional.layer_norm),
    "native_group_norm": _norm(_group_norm),
    "instance_norm": _instance_norm,
    "convolution": _convolution,
    "sym_size": lambda self, dim: self.size(dim),
    **{name: getattr(torch, name) for name in ("full", "zeros", "ones", "arange", "scalar_tensor")},
}
FUNCTIONS = SAME | OTHERS
SIZES = {name: getattr(operator, name) for name in _words("add sub mul floordiv mod neg ge le gt lt eq ne")}
ASSERTIONS = ("_assert_scalar", "_assert_tensor_metadata", "sym_constrain_range_for_size", "sym_constrain_range")
# what may share memory with its input
VIEWS = frozenset(
    _words(
        "view reshape _unsafe_view unflatten flatten expand expand_as numpy_T slice split split_with_sizes chunk "
        "unbind select permute transpose t unsqueeze squeeze dropout feature_dropout contiguous detach alias to "
        "_to_copy"
    )
)


def layer(name: str, weights: dict[str, Tensor], settings: dict[str, Any], rank: int) -> nn.Module | None:
    """The layer object that does what the operator ``name`` does with these ``weights``, or None if there is none.

    ``rank`` is the number of dimensions of what it reads.
    """
    made: nn.Module | None = None
    if name == "linear":
        made = nn.Linear(weights["weight"].shape[1], len(weights["weight"]), "bias" in weights, device="meta")
    elif "conv" in name:
        made = _convolution_layer(name, weights, settings)
    elif {"running_mean", "running_var"} <= weights.keys() and ("weight" in weights) == ("bias" in weights):
        kind = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}[rank]
        if settings.get("training"):
            raise Refused(IN_TRAINING)
        made = kind(len(weights["running_mean"]), eps=settings["eps"], affine="weight" in weights)
    if made is not None:
        for role, value in weights.items():
            setattr(made, role, value if role.startswith("running") else nn.Parameter(value))
        made.eval()
    return made


def _convolution_layer(name: str, weights: dict[str, Tensor], settings: dict[str, Any]) -> nn.Module:
    settings = {key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()}
    transposed = settings.pop("transposed", "transpose" in name)
    if not transposed:
        settings.pop("output_padding", None)
    first, second, *kernel = weights["weight"].shape
    groups = settings.get("groups", 1)
    sizes = (first, second * groups) if transposed else (second * groups, first)
    kind: type[nn.Module] = getattr(nn, f"Conv{'Transpose' if transposed else ''}{len(kernel)}d")
    return kind(*sizes, tuple(kernel), bias="bias" in weights, device="meta", **settings)
