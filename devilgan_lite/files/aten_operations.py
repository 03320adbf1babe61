"""What an exported graph may ask for: operators of PyTorch (``aten``), each as a function or layer that does the same.

Everything else is refused by name. Functions are the public ones that ``trace`` and ``generators.chain`` recognise.
"""

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from devilgan_lite.files.program import Trace, Value
from devilgan_lite.files.sniff import Refused

NUMBERS = {1: torch.uint8, 2: torch.int8, 3: torch.int16, 4: torch.int32, 5: torch.int64, 6: torch.float16}
NUMBERS |= {7: torch.float32, 8: torch.float64, 12: torch.bool, 13: torch.bfloat16}  # torch._export.serde.schema
IN_TRAINING = "the network was exported in training mode; call module.eval() and export it again."
# arguments that say where and how numbers are stored, not what they are
STORAGE = frozenset(
    ("layout", "device", "pin_memory", "memory_format", "non_blocking", "copy", "implicit", "half_to_float")
    + ("cudnn_enabled", "cudnn_enable", "momentum", "path")
)


def _of(function: Callable[..., Any], **fixed: Any) -> Callable[..., Any]:
    """``function`` of the argument that operators call ``self`` or ``input``, and of the others by their names."""

    def run(**given: Any) -> Any:
        x = given.pop("self") if "self" in given else given.pop("input")
        return function(x, **given, **fixed)

    return run


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


def _group_norm(input: Any, weight: Any, bias: Any, N: Any, C: Any, HxW: Any, group: int, eps: float) -> Any:
    return functional.group_norm(input, group, weight, bias, eps)


def _instance_norm(
    input: Any, weight: Any, bias: Any, running_mean: Any, running_var: Any, use_input_stats: bool, eps: float
) -> Any:
    if use_input_stats and running_mean is not None:
        raise Refused(IN_TRAINING)
    return functional.instance_norm(input, running_mean, running_var, weight, bias, use_input_stats, eps=eps)


# the same name in torch and in aten
FUNCTIONAL = """relu leaky_relu selu celu gelu silu mish softplus hardswish hardsigmoid hardtanh relu6 prelu
    pixel_shuffle avg_pool2d layer_norm group_norm"""
TORCH = """tanh sigmoid exp expm1 log log1p sqrt rsqrt square abs neg sin cos reciprocal erf clamp clamp_min clamp_max
    add sub rsub mul div pow maximum minimum gt ge lt le eq ne logical_and logical_or logical_not mm bmm matmul mean sum
    var var_mean amax amin norm softmax unsqueeze squeeze flatten permute transpose t unbind chunk select full_like
    zeros_like ones_like clone index_select"""
FUNCTIONS: dict[str, Any] = {
    **{name: _of(getattr(functional, name)) for name in FUNCTIONAL.split()},
    **{name: _of(getattr(torch, name)) for name in TORCH.split()},
    "elu": _elu,
    "_softmax": _of(torch.softmax),
    "linalg_vector_norm": _of(torch.linalg.vector_norm),
    "where": lambda condition, self, other: torch.where(condition, self, other),
    "cat": torch.cat,
    "stack": torch.stack,
    "einsum": lambda equation, tensors: torch.einsum(equation, *tensors),
    "addmm": lambda self, mat1, mat2, **given: torch.addmm(self, mat1, mat2, **given),
    "baddbmm": lambda self, batch1, batch2, **given: torch.baddbmm(self, batch1, batch2, **given),
    "unflatten": lambda self, dim, sizes: self.unflatten(dim, sizes),
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
    "native_layer_norm": functional.layer_norm,  # of the three results of a norm, the others are for training
    "native_group_norm": _group_norm,
    "instance_norm": _instance_norm,
    **{name: getattr(torch, name) for name in ("full", "zeros", "ones", "arange", "scalar_tensor")},
}
LAYERS = ("linear", *(f"conv{kind}{d}d" for kind in ("", "_transpose") for d in (1, 2, 3)), "convolution")
LAYERS += ("batch_norm", "_native_batch_norm_legit_no_training", "_native_batch_norm_legit")
RESHAPED, FILLED = ("view", "reshape", "_unsafe_view"), ("full", "zeros", "ones")
OPERATORS = frozenset((*FUNCTIONS, *LAYERS, *RESHAPED, "expand", "sym_size"))
ARITHMETIC = "add sub mul floordiv mod neg ge le gt lt eq ne"  # of sizes
SIZES = {name: getattr(operator, name) for name in ARITHMETIC.split()}
ASSERTIONS = ("_assert_scalar", "_assert_tensor_metadata", "sym_constrain_range_for_size", "sym_constrain_range")
# operators whose result may share memory with what they read
SHARING = """view reshape _unsafe_view unflatten flatten expand expand_as numpy_T slice split split_with_sizes chunk
    unbind select permute transpose t unsqueeze squeeze dropout feature_dropout contiguous detach alias to _to_copy"""
VIEWS = frozenset(SHARING.split())


class Walker:
    """One walk through a graph of these operators. ``frozen`` is as in ``batches.Walk``."""

    def __init__(self, trace: Trace, frozen: int | None) -> None:
        self.trace, self.frozen = trace, frozen
        self.turned: dict[str, Value] = {}  # by the name of a transposed weight: the weight

    def made(self, name: str, given: dict[str, Any]) -> Any:
        """What the operator ``name`` makes of the arguments ``given``: a value, several, or a size."""
        if name.startswith("."):
            return SIZES[name[1:]](*given.values())
        if name == "sym_size":
            return given["self"].tensor.shape[given["dim"]]
        if name in LAYERS:
            return self._layer(name, **given)
        if name in RESHAPED or name == "expand":
            return self._reshaped(name, *given.values())
        if name in ("mm", "addmm") and (weight := self.turned.get(given["mat2"].name)):  # as decomposed graphs write it
            bias = given.get("self") if name == "addmm" else None
            if bias is None or (not bias.live and bias.tensor.ndim == 1 and len(given) == 3):
                return self.trace.emit(functional.linear, given["mat1" if bias else "self"], weight, bias)
        if name in FILLED and given["size"][:1] == [self.frozen]:
            given = {**given, "size": [self.trace.batch, *given["size"][1:]]}
        made = self.trace.emit(FUNCTIONS[name], **given)
        swaps = name in ("t", "numpy_T") or (name == "permute" and given["dims"] == [1, 0])
        if swaps and not given["self"].live:
            self.turned[made.name] = given["self"]
        return made

    def _reshaped(self, name: str, x: Value, size: list[int]) -> Any:
        if size[:1] == [self.frozen] and (x.live or name == "expand"):
            size = [self.trace.batch, *size[1:]]
        if name == "expand":
            return self.trace.emit(Tensor.expand, x, size=tuple(x.tensor.to("meta").expand(size).shape))
        return self.trace.emit(torch.reshape, x, shape=tuple(x.tensor.to("meta").reshape(size).shape))

    def _layer(self, name: str, input: Value, weight: Any = None, bias: Any = None, **given: Any) -> Any:
        if name == "linear":
            return self.trace.emit(functional.linear, input, weight, bias)
        if "norm" in name:
            statistics = [given.get(key) for key in ("running_mean", "running_var")]
            if given.get("training") and statistics[0] is not None:
                raise Refused(IN_TRAINING)
            settings = {"eps": given["eps"], **({"training": True} if given.get("training") else {})}
            return self.trace.emit(functional.batch_norm, input, *statistics, weight, bias, **settings)
        settings = {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}
        if name == "convolution":
            transposed = settings.pop("transposed")
            name = f"conv{'_transpose' if transposed else ''}{len(settings['stride'])}d"
        if "transpose" not in name:
            settings.pop("output_padding", None)
        return self.trace.emit(getattr(functional, name), input, weight, bias, **settings)
