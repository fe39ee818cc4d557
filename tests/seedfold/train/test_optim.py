import pytest
import torch
from torch import nn

from seedfold.train.optim import Ema, OptimConfig, learning_rate, make_optimizer


@pytest.mark.parametrize(
    ("step", "rate"),
    [
        (0, 0.0),
        (1, 1.8e-6),
        (500, 9e-4),
        (1000, 1.8e-3),
        (49_999, 1.8e-3),
        (50_000, 1.71e-3),
        (99_999, 1.71e-3),
        (100_000, 1.6245e-3),
    ],
)
def test_learning_rate_of_af3(step, rate):
    """AF3 SI 5.4: linear to 1.8e-3 in 1000 steps, times 0.95 every 5e4."""
    assert learning_rate(OptimConfig(), step, 10**6) == pytest.approx(rate, rel=1e-12)


def test_no_warm_up():
    assert learning_rate(OptimConfig(warmup_steps=0), 0, 10**6) == 1.8e-3


def test_optimizer_is_adamw():
    """Two steps by hand in float64; Kingma & Ba's algorithm 1, decay as in Loshchilov & Hutter."""
    config = OptimConfig(warmup_steps=0, learning_rate=0.1, weight_decay=0.01)
    weight = nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
    optimizer = make_optimizer(config, [weight])
    w, m, v = weight.detach().clone(), torch.zeros(2), torch.zeros(2)
    for t, g in enumerate((torch.tensor([0.5, -3.0]), torch.tensor([-1.0, 0.25])), 1):
        weight.grad = g.double()
        optimizer.step()
        m, v = 0.9 * m + 0.1 * g.double(), 0.95 * v + 0.05 * g.double() ** 2
        w = w * (1 - 0.1 * 0.01)
        w = w - 0.1 * (m / (1 - 0.9**t)) / ((v / (1 - 0.95**t)).sqrt() + 1e-8)
        torch.testing.assert_close(weight.detach(), w)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(1.0))
        self.register_buffer("constant", torch.tensor(7.0))


def set_to(net: Net, value: float) -> None:
    net.weight.data = torch.tensor(value)


def test_average_by_hand():
    """Decays 2/11 and 3/12 while it is young; then the one it was given."""
    net = Net()
    ema = Ema(net, decay=0.25)
    expected = 1.0
    for value, decay in ((3.0, 2 / 11), (-1.0, 0.25), (5.0, 0.25)):
        set_to(net, value)
        ema.update(net)
        expected = decay * expected + (1 - decay) * value
        assert float(ema.weights["weight"]) == pytest.approx(expected, rel=1e-6)


def test_average_is_applied_and_taken_back():
    net = Net()
    ema = Ema(net, decay=0.5)
    set_to(net, 4.0)
    with pytest.raises(KeyError), ema.applied(net):
        assert net.weight.item() == 1.0
        raise KeyError
    assert net.weight.item() == 4.0 and float(ema.weights["weight"]) == 1.0
    full = ema.full(net)
    assert full.keys() == net.state_dict().keys()
    assert (float(full["weight"]), float(full["constant"])) == (1.0, 7.0)


def test_average_goes_on_from_its_state():
    net, again = Net(), Net()
    ema, resumed = Ema(net, decay=0.9), Ema(again, decay=0.9)
    set_to(net, 2.0)
    ema.update(net)
    resumed.load_state_dict(ema.state_dict())
    set_to(net, 3.0)
    resumed.update(net)
    first = 2 / 11 * 1.0 + 9 / 11 * 2.0
    assert float(resumed.weights["weight"]) == pytest.approx(3 / 12 * first + 9 / 12 * 3.0)
