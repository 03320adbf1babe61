"""A generator written down for the page: a list of steps on flat arrays, one latent at a time, and their tensors.

``torch.export`` gives the graph of any module. What does not depend on the latent is computed here, once; what only
moves numbers (views, slices, transposes) becomes a table of places, or nothing; layers, activations and resizing stay.
``engine.js`` does the same steps. An operator that it does not know is one sentence here, when the page is built.
"""

import itertools
import math
from typing import Any

import torch
from torch import Tensor, fx, nn

from devilgan_lite.apps.show.phone.fusing import fused
from devilgan_lite.apps.show.phone.layers import LAYERS
from devilgan_lite.apps.show.phone.plan import Made, Plan, binary, unknown
from devilgan_lite.checks import cut


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


MOVES = _words(  # what only chooses and orders numbers, or fills in zeros
    "view reshape _unsafe_view unflatten flatten expand expand_as numpy_T slice split split_with_sizes chunk unbind "
    "select permute transpose t unsqueeze squeeze dropout feature_dropout contiguous detach alias to _to_copy clone "
    "repeat pad constant_pad_nd reflection_pad2d replication_pad2d pixel_shuffle flip narrow getitem cat stack"
)
COPIES = _words(
    "clone _to_copy repeat pad constant_pad_nd reflection_pad2d replication_pad2d pixel_shuffle flip cat stack"
)
UNARY = _words("relu elu tanh sigmoid silu softplus exp sqrt rsqrt square abs neg sin cos reciprocal")
CLAMPS = _words("clamp clamp_min clamp_max hardtanh leaky_relu")
BINARY = _words("add sub mul div pow maximum minimum")
NEW = COPIES | UNARY | CLAMPS | BINARY | LAYERS.keys()  # whose results are numbers of their own; other may share them


def lowered(module: nn.Module, latent_shape: tuple[int, ...], tensors: list[Tensor]) -> Plan:
    """The steps of ``module``, which maps latents ``[n, *latent_shape]`` to pictures; ``tensors`` grows by its own.

    ``ValueError`` names what the page cannot compute.
    """
    module = module.cpu().eval()
    try:
        with torch.no_grad():
            exported = torch.export.export(module, (torch.zeros(1, *latent_shape),))
    except Exception as error:  # an exporter raises anything
        first = next(iter(str(error).strip().splitlines()), "no message")
        raise ValueError(f"torch.export cannot read the generator ({cut(first, 120)}).") from error
    signature = exported.graph_signature
    stored: dict[str, Any] = {**exported.state_dict, **exported.constants}
    names = {
        **signature.inputs_to_parameters,
        **signature.inputs_to_buffers,
        **signature.inputs_to_lifted_tensor_constants,
    }
    plan = Plan(tensors, math.prod(latent_shape))
    known: dict[fx.Node, Any] = {}
    for node in exported.graph.nodes:
        if node.op == "placeholder":
            known[node] = stored[names[node.name]].detach() if node.name in names else Made(0, (1, *latent_shape))
        elif node.op == "call_function":
            args, kwargs = fx.node.map_arg((node.args, dict(node.kwargs)), known.__getitem__)
            with torch.no_grad():
                known[node] = _lower(plan, node, args, kwargs)
        elif node.op == "output":
            (made,) = fx.node.map_arg(node.args[0], known.__getitem__)
            if not isinstance(made, Made):
                raise ValueError("the generator makes the same of every latent.")
            plan.result = plan.operand(made)
    plan.steps = fused(plan.steps, plan.tensors, plan.result)
    return plan


def _depends(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_depends, value.values()))
    return any(map(_depends, value)) if isinstance(value, (list, tuple)) else isinstance(value, Made)


def _spelled(node: fx.Node) -> str:
    target: Any = node.target
    return str(getattr(target, "_opname", getattr(target, "__name__", target)))


def _source(node: fx.Node) -> fx.Node:
    """Where the numbers of ``node`` were made: views, and operators that change them in place, share them."""
    while node.op == "call_function" and node.all_input_nodes and _spelled(node) not in NEW:
        node = node.all_input_nodes[0]
    return node


def _read_again(changed: fx.Node) -> bool:
    """Whether what ``changed`` changes in place is read later, from its source or another view of it."""
    before = set(itertools.takewhile(lambda node: node is not changed, changed.graph.nodes))
    source = _source(changed)
    return any(
        user not in before and user is not changed for node in before if _source(node) is source for user in node.users
    )


def _lower(plan: Plan, node: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    target: Any = node.target
    spelled = _spelled(node)
    name = spelled.removesuffix("_")
    asleep = name in MOVES and args[2:3] == (False,)  # dropout when nobody trains
    if torch.Tag.nondeterministic_seeded in getattr(target, "tags", ()) and not asleep:
        raise unknown(f"{spelled}, which draws other numbers each time")
    if not _depends((args, kwargs)):
        return target(*args, **kwargs)
    if name != spelled and _read_again(node):
        raise unknown(f"{spelled}, which changes a value that is read again")
    if name in MOVES:
        return _moved(plan, target, name, args, kwargs)
    shape = tuple(node.meta["val"].shape)
    if name in BINARY and not kwargs:
        return binary(plan, name, args[0], args[1], shape)
    if name in UNARY and (name in ("elu", "softplus") or len(args) == 1):
        if len(args) > 1 and name == "softplus":
            raise unknown("softplus with settings")
        return plan.emit("unary", shape, name=name, x=plan.operand(args[0]), settings=list(args[1:2]))
    if name in CLAMPS:
        settings = list(args[1:])
        if name == "hardtanh":
            settings = settings or [-1.0, 1.0]
        settings = [None, *settings] if name == "clamp_max" else settings
        kind = "leaky_relu" if name == "leaky_relu" else "clamp"
        return plan.emit("unary", shape, name=kind, x=plan.operand(args[0]), settings=settings)
    if name in LAYERS:
        return LAYERS[name](plan, shape, *args, **kwargs)
    raise unknown(name)


def _moved(plan: Plan, target: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Do to places in an array what the operator does to numbers; places start at 1, so that 0 is what is filled in."""
    if name in ("cat", "stack"):
        parts = [part if isinstance(part, Made) else _held(plan, part) for part in args[0]]
        whole = plan.emit("concat", (sum(math.prod(p.shape) for p in parts),), parts=[plan.operand(p) for p in parts])
        source, start, places = whole.at, 1, []
        for part in parts:
            places.append(torch.arange(start, start + math.prod(part.shape)).view(part.shape))
            start += math.prod(part.shape)
        moved = target(places, *args[1:], **kwargs)
    elif name == "getitem":
        return args[0][args[1]]
    else:
        value = args[0] if isinstance(args[0], Made) else _held(plan, args[0])
        if name in ("to", "_to_copy", "clone"):
            return value
        if name in ("pad", "constant_pad_nd") and any(args[2:]) and (args[2:3] != ("constant",) or any(args[3:])):
            raise unknown("pad with something else than zeros")
        length = math.prod(value.shape)
        index = torch.arange(length).view(value.shape) if value.index is None else value.index
        source = value.at
        rest = [torch.empty(one.shape) if isinstance(one, Made) else one for one in args[1:]]
        floats = name.endswith("pad2d")  # reflection is not written for whole numbers
        moved = target(index.double() + 1 if floats else index + 1, *rest, **kwargs)
    lengths = {0: plan.latent} | {step["out"]: step["length"] for step in plan.steps}

    def place(index: Tensor) -> Made:
        index = index.long() - 1
        same = index.numel() == lengths[source] and torch.equal(index.flatten(), torch.arange(index.numel()))
        return Made(source, tuple(index.shape), None if same else index)

    return place(moved) if isinstance(moved, Tensor) else [place(one) for one in moved]


def _held(plan: Plan, constant: Tensor) -> Made:
    return plan.emit("concat", constant.shape, parts=[plan.operand(constant)])
