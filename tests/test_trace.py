"""Every linear operation, hidden activation and decision is seen, however it is written, and none is changed."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from devilgan_lite.generators import DCGAN, adopt
from devilgan_lite.trace import Activation, OpTracer, Outline, outline

Function = Callable[[Tensor], Tensor]


class Net(nn.Module):
    """Two linear layers, ``middle`` in between, ``end`` on the way out."""

    def __init__(self, middle: Function = torch.relu, end: Function = torch.tanh) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.middle, self.end = nn.Linear(6, 8), nn.Linear(8, 16), middle, end

    def forward(self, z: Tensor) -> Tensor:
        return self.end(self.second(self.middle(self.first(z)))).view(-1, 1, 4, 4)


def traced(module: nn.Module) -> Outline:
    subject = adopt(module)
    return outline(subject.network, subject.ordinary(4))


def unassigned(x: Tensor) -> Tensor:
    functional.relu(x, inplace=True)
    return x


ACTIVATIONS: dict[str, tuple[Function, float]] = {
    "functional.relu": (functional.relu, 0.0),
    "torch.relu": (torch.relu, 0.0),
    "torch.relu, keyword": (lambda x: torch.relu(input=x), 0.0),
    "x.relu": (lambda x: x.relu(), 0.0),
    "x.relu_": (lambda x: x.relu_(), 0.0),
    "torch.relu_": (torch.relu_, 0.0),
    "ReLU": (nn.ReLU(), 0.0),
    "ReLU in place": (nn.ReLU(inplace=True), 0.0),
    "in place, positional": (lambda x: functional.relu(x, True), 0.0),
    "in place, result unused": (unassigned, 0.0),
    "x.relu_, result unused": (lambda x: (x.relu_(), x)[1], 0.0),
    "clamp": (lambda x: x.clamp(min=0), 0.0),
    "clamp, positional": (lambda x: torch.clamp(x, 0.0), 0.0),
    "clamp_min_": (lambda x: x.clamp_min_(0), 0.0),
    "ReLU6": (nn.ReLU6(), 0.0),
    "ELU": (nn.ELU(), 0.0),
    "ELU in place": (nn.ELU(0.5, inplace=True), 0.0),
    "SiLU in place": (nn.SiLU(inplace=True), 0.0),
    "GELU, keyword": (nn.GELU(approximate="tanh"), 0.0),
    "LeakyReLU": (nn.LeakyReLU(0.3), 0.3),
    "LeakyReLU in place": (nn.LeakyReLU(0.3, inplace=True), 0.3),
    "leaky_relu": (functional.leaky_relu, 0.01),
    "leaky_relu, positional": (lambda x: functional.leaky_relu(x, 0.2), 0.2),
    "leaky_relu, keyword": (lambda x: functional.leaky_relu(x, negative_slope=0.2), 0.2),
    "leaky_relu_": (lambda x: functional.leaky_relu_(x, 0.4), 0.4),
    "PReLU": (nn.PReLU(init=0.15), 0.15),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_each_activation_is_seen_once_and_changes_nothing(name: str) -> None:
    middle, slope = ACTIVATIONS[name]
    module, z = Net(middle).eval().requires_grad_(False), torch.randn(50, 6, generator=torch.Generator().manual_seed(1))
    plain = module(z)
    pairs: list[tuple[Tensor, Tensor]] = []
    results: list[Tensor] = []
    with OpTracer(
        module,
        on_activation=lambda activation, before, after: pairs.append((before, after)),
        on_linear=lambda layer, x, weight, result: results.append(result),
    ) as tracer:
        watched = module(z)
    assert torch.equal(watched, plain)
    assert len(tracer.activations) == 1
    assert tracer.activations[0] == Activation(pytest.approx(slope), (8,))
    ((before, after),) = pairs
    assert torch.equal(before, module.first(z))  # what went in is still there, and so is what came out
    assert torch.equal(results[0], before) and torch.equal(after, middle(before.clone()))
    assert [layer.name for layer in tracer.layers] == ["first", "second"]


@pytest.mark.parametrize("name", ["functional.relu", "x.relu_", "in place, result unused", "LeakyReLU in place"])
def test_gates_are_random_masks_and_leave_the_values(name: str) -> None:
    """With gates, the gradient at a unit is that behind it times 1 or the slope, whatever its input is."""
    middle, slope = ACTIVATIONS[name]
    module = Net(middle, end=lambda x: x).requires_grad_(False)
    z = torch.randn(400, 6, requires_grad=True)
    kept: list[Tensor] = []
    with OpTracer(module, gates=torch.Generator().manual_seed(0), on_linear=lambda layer, x, weight, y: kept.append(y)):
        output = module(z)
    torch.testing.assert_close(output, module(z))
    (gradient,) = torch.autograd.grad(output.sum(), kept[0])
    share = gradient / module.second.weight.sum(0)
    on = (share - 1).abs() < 1e-4
    assert bool((on | ((share - slope).abs() < 1e-4)).all())
    assert float(on.float().mean()) == pytest.approx(0.5, abs=0.05)
    assert bool((on & (kept[0] < 0)).any()) and bool((~on & (kept[0] > 0)).any())


@pytest.mark.parametrize("name", ["functional.relu", "x.relu_", "clamp_min_", "in place, positional"])
def test_a_look_before_the_activation_sees_what_goes_in_and_changes_nothing(name: str) -> None:
    module, z = Net(ACTIVATIONS[name][0]).requires_grad_(False), torch.randn(50, 6)
    seen: list[Tensor] = []
    with OpTracer(module, before_activation=lambda activation, x: seen.append(x.clone())) as tracer:
        watched = module(z)
    assert torch.equal(watched, module(z))
    assert len(seen) == len(tracer.activations) == 1 and torch.equal(seen[0], module.first(z))


@pytest.mark.parametrize(
    ("end", "inverse"),
    [(torch.tanh, torch.atanh), (nn.Tanh(), torch.atanh), (nn.Sigmoid(), lambda x: torch.atanh(2 * x - 1))],
)
def test_what_goes_into_the_last_squash_is_kept(end: Function, inverse: Function) -> None:
    with OpTracer(module := Net(middle=torch.tanh, end=end).double()) as tracer:
        x = module(torch.randn(4, 6).double())
    assert tracer.logits is not None
    torch.testing.assert_close(tracer.logits.view_as(x), inverse(x))
    with OpTracer(module := Net(end=nn.Hardtanh())) as tracer:
        module(torch.randn(4, 6))
    assert tracer.logits is None


@pytest.mark.parametrize("end", [torch.tanh, torch.sigmoid, nn.Hardtanh(), nn.Hardtanh(0, 1), lambda x: x.clamp(0, 1)])
def test_an_output_range_is_no_activation(end: Function) -> None:
    with OpTracer(module := Net(end=end)) as tracer:
        module(torch.randn(4, 6))
    assert len(tracer.activations) == 1


def test_layers_that_choose_by_a_softmax_are_those_after_the_last_activation() -> None:
    choice = [nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4), nn.Softmax(1)]
    for module, expected in (
        (nn.Sequential(*choice), {1}),
        (nn.Sequential(*choice, nn.Linear(4, 4)), {1}),  # the last layer reads the choice, it makes none
        (nn.Sequential(*choice, nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4)), set()),  # attention, and more behind it
        (nn.Sequential(*choice[:-1], nn.Tanh()), set()),
    ):
        with OpTracer(module) as tracer:
            module(torch.randn(4, 6))
        assert tracer.choosing == expected


def test_layers_by_any_name_on_parallel_branches() -> None:
    class Branched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.main = nn.Sequential(nn.Linear(6, 32), nn.LeakyReLU(0.2), nn.Unflatten(1, (8, 2, 2)))
            self.kernel = nn.Parameter(torch.randn(8, 1, 4, 4))
            self.side, self.idle = nn.Parameter(torch.randn(6, 16)), nn.Linear(3, 3)
            self.smooth = nn.Conv2d(1, 1, 3, padding=1, groups=1)

        def forward(self, z: Tensor) -> Tensor:
            main = functional.conv_transpose2d(self.main(z), self.kernel, stride=2, padding=1)
            return torch.tanh(self.smooth(main + (z @ self.side).relu().view(-1, 1, 4, 4)))

    graph = traced(Branched())
    assert [(layer.name, layer.kind, layer.inputs, layer.outputs, layer.weights) for layer in graph.layers] == [
        ("main.0", "linear", 6, 32, 192),
        ("kernel", "transposed convolution", 8, 1, 128),
        ("side", "linear", 6, 16, 96),
        ("smooth", "convolution", 1, 1, 9),
    ]
    assert graph.activations == (Activation(0.2, (32,)), Activation(0.0, (16,)))
    assert graph.unused == ("idle.weight", "idle.bias")
    assert graph.conditions == ()


def test_a_matrix_product_is_handed_over_like_a_linear_layer() -> None:
    """``x @ W`` holds its weight the other way round; for a square one the shape does not tell."""

    class Square(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.randn(5, 5))

        def forward(self, z: Tensor) -> Tensor:
            return z @ self.w

    seen: list[Tensor] = []
    module, z = Square(), torch.randn(3, 5)
    with OpTracer(module, on_linear=lambda layer, x, weight, result: seen.append(functional.linear(x, weight))):
        result = module(z)
    torch.testing.assert_close(seen[0], result)


DECISIONS: dict[str, tuple[Function, str]] = {
    "if": (lambda x: x if x.sum() > 1e9 else x * 1, "a branch on a value"),
    "item": (lambda x: x + 0 * x.sum().item(), "a value read out"),
    "float": (lambda x: x + 0 * float(x.detach().sum()), "a value read out"),
    "tolist": (lambda x: x + 0 * x.tolist()[0][0], "a value read out"),
    "where": (lambda x: torch.where(x.isnan(), x, x), "a choice between values"),
    "x.where": (lambda x: x.where(x.isnan(), x), "a choice between values"),
    ">": (lambda x: x * (x > -1e9), "a comparison"),
    ">=": (lambda x: x * (x >= -1e9), "a comparison"),
    "<=": (lambda x: x * (x <= 1e9), "a comparison"),
    "==": (lambda x: x + 0 * (x == 0), "a comparison"),
    "!=": (lambda x: x * (x != 0), "a comparison"),
    "eq": (lambda x: x + 0 * x.eq(0), "a comparison"),
    "torch.ge": (lambda x: x * torch.ge(x, -1e9), "a comparison"),
    "isclose": (lambda x: x + 0 * x.isclose(x), "a comparison"),
}


@pytest.mark.parametrize("name", DECISIONS)
def test_a_decision_on_a_value_is_listed(name: str) -> None:
    decide, condition = DECISIONS[name]
    module = Net(end=lambda x: torch.tanh(decide(x))).eval()
    assert condition in traced(module).conditions
    assert traced(Net().eval()).conditions == ()


def test_the_outline_of_the_shipped_model(clean: DCGAN) -> None:
    found = adopt(clean)
    graph = outline(found.network, found.ordinary(4))
    assert [layer.name for layer in graph.layers] == ["layers.dense", "layers.deconv1", "layers.deconv2"]
    assert graph.activations == (Activation(0.0, (3136,)), Activation(0.0, (32, 14, 14)))
    assert graph.unused == graph.conditions == ()
    assert not any(parameter.requires_grad for parameter in found.network.parameters())
    z = found.ordinary(30)
    with OpTracer(found.network), torch.no_grad():
        watched = found(z)
    assert torch.equal(watched, found(z))
