"""Steps around a convolution become part of it: what scales its input, and what scales, shifts and bends its output.

A modulated convolution is then one step in place of seven, and batch norm costs nothing.
"""

from collections import defaultdict
from typing import Any

from torch import Tensor

RECTIFIERS = {"relu": 0.0, "leaky_relu": 0.01}


def fused(steps: list[dict[str, Any]], tensors: list[Tensor], result: dict[str, int]) -> list[dict[str, Any]]:
    """The same with fewer ``steps``; ``result`` is the operand that is the sample; ``tensors`` may grow."""
    readers: dict[int, list[dict[str, Any]]] = defaultdict(list)
    makers = {step["out"]: step for step in steps}
    for step in steps:
        for value in values_in(step):
            readers[value].append(step)
    readers[result["v"]].append({"op": "shown"})
    gone: set[int] = set()  # the id of a step that is part of another now
    places = {id(step): index for index, step in enumerate(steps)}
    for step in [one for one in steps if one["op"] == "conv"]:
        _take_input(step, readers, makers, gone)
        while len(readers[step["out"]]) == 1:
            follower = readers[step["out"]][0]
            if not _take(step, follower, tensors):
                break
            step["out"] = follower["out"]
            gone.add(id(follower))
            places[id(step)] = places[id(follower)]
        step.pop("bent", None)
    return sorted((step for step in steps if id(step) not in gone), key=lambda step: places[id(step)])


def values_in(step: dict[str, Any]) -> list[int]:
    """The values of earlier steps that a step reads."""
    given = [*step.values(), *step.get("parts", ())]
    return [one["v"] for one in given if isinstance(one, dict) and "v" in one]


def _sides(step: dict[str, Any], shape: list[int]) -> list[tuple[Any, Any]]:
    """(whole, per channel) operands of a binary ``step`` on ``[channels, height, width]``, both ways round."""
    sides = [(step["a"], step["an"]), (step["b"], step["bn"])]
    size = shape[1] * shape[2]
    found = []
    for (whole, (_, count)), (other, pattern) in (sides, sides[::-1]):
        if count == shape[0] * size and (pattern[1] == 1 or pattern == [size, shape[0]]):
            found.append((whole, other))
    return found


def _take_input(conv: dict[str, Any], readers: Any, makers: Any, gone: set[int]) -> None:
    value = conv["x"].get("v")
    maker = makers.get(value)
    if maker is None or maker["op"] != "binary" or maker["name"] != "mul" or len(readers[value]) > 1:
        return
    for whole, other in _sides(maker, conv["size"])[:1]:
        conv["x"], conv["pre"] = whole, other
        gone.add(id(maker))
        for one in values_in(maker):
            readers[one].remove(maker)
            readers[one].append(conv)


def _take(conv: dict[str, Any], step: dict[str, Any], tensors: list[Tensor]) -> bool:
    """Whether ``conv`` now does what ``step`` did with its output: ``bend(sum * scale + shift) * gain``."""
    bent = conv.get("bent", False)
    if step["op"] == "unary" and step["name"] in RECTIFIERS and not bent:
        conv["bent"], conv["slope"] = True, float((step["settings"] or [RECTIFIERS[step["name"]]])[0])
        return True
    if step["op"] != "binary" or step["name"] not in ("mul", "add"):
        return False
    others = [other for whole, other in _sides(step, conv["made"]) if whole == {"v": conv["out"]}]
    if not others:
        return False
    (other, *_) = others
    if step["name"] == "mul" and bent:
        if not isinstance(other, (int, float)):
            return False
        conv["gain"] *= other
        return True
    if bent:
        return False
    changed = {"mul": ("scale", "shift"), "add": ("shift",)}[step["name"]]
    made = {}
    for name in changed:
        if conv[name] is not None or (name == "scale"):
            made[name] = other if conv[name] is None else _combined(step["name"], conv[name], other, tensors)
        elif step["name"] == "add":
            made[name] = other
    if any(value is None for value in made.values()):
        return False
    conv.update(made)
    return True


def _combined(name: str, a: Any, b: Any, tensors: list[Tensor]) -> Any:
    """Product or sum of two operands that are known now, as an operand; else None."""
    if any(isinstance(one, dict) and "v" in one for one in (a, b)):
        return None
    left, right = (tensors[one["t"]].flatten() if isinstance(one, dict) else one for one in (a, b))
    made = left * right if name == "mul" else left + right
    if not isinstance(made, Tensor):
        return made
    tensors.append(made)
    return {"t": len(tensors) - 1}
