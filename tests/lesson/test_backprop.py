"""S6 part 1: its derivatives against autograd and finite differences, its numbers by hand, and what its text says."""

import csv
import math
import random
import runpy
import sys
from types import SimpleNamespace

import pytest
import torch

from common.recipe import ROOT

SCRIPT = ROOT / "sessions" / "S6" / "part1_backprop.py"


def run(out, *arguments):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(SCRIPT), f"--out={out}", *arguments])
        return SimpleNamespace(**runpy.run_path(str(SCRIPT)))


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("backprop")


@pytest.fixture(scope="module")
def lesson(out):
    """What the lesson defines, after a run of it as a script."""
    return run(out)


def autograd(weights):
    """The derivatives by other code than the lesson's: torch's layers, one example in a batch."""
    hidden, output = (torch.nn.Linear(2, 2, bias=False, dtype=torch.float64) for _ in range(2))
    with torch.no_grad():
        hidden.weight.copy_(torch.tensor(weights[:4]).view(2, 2))
        output.weight.copy_(torch.tensor(weights[4:]).view(2, 2))
    answer = output(hidden(torch.tensor([[0.05, 0.10]], dtype=torch.float64)).sigmoid()).sigmoid()
    (0.5 * torch.nn.functional.mse_loss(answer, torch.full_like(answer, 0.5), reduction="sum")).backward()
    return torch.cat([hidden.weight.grad.flatten(), output.weight.grad.flatten()]).tolist()


@pytest.fixture(params=["start", "trained", "random 1", "random 2", "random 3"])
def weights(request, lesson):
    if request.param == "start":
        return lesson.START
    if request.param == "trained":
        return lesson.walk[100]
    generator = random.Random(request.param)
    # As float32 holds them, so that copying them into a tensor changes nothing.
    return tuple(torch.tensor([generator.uniform(-3, 3) for _ in range(8)]).tolist())


def test_derivatives_agree_with_autograd(lesson, weights):
    tensor = torch.tensor(weights, dtype=torch.float64, requires_grad=True)
    lesson.error_by_torch(tensor).backward()
    assert lesson.derivatives(weights) == pytest.approx(tensor.grad.tolist(), rel=0, abs=1e-12)
    assert lesson.forward(weights).e == pytest.approx(lesson.error_by_torch(tensor).item(), rel=0, abs=1e-12)


def test_derivatives_agree_with_torchs_own_layers(lesson, weights):
    in_float32 = tuple(torch.tensor(weights).tolist())
    assert lesson.derivatives(in_float32) == pytest.approx(autograd(in_float32), rel=0, abs=1e-12)


def test_derivatives_agree_with_finite_differences(lesson, weights):
    for number, slope in enumerate(lesson.derivatives(weights)):
        right, left = (
            lesson.forward([weight + sign * 1e-5 * (place == number) for place, weight in enumerate(weights)]).e
            for sign in (1, -1)
        )
        assert slope == pytest.approx((right - left) / 2e-5, rel=0, abs=1e-9)


def test_the_first_forward_pass_by_hand(lesson):
    first = lesson.forward(lesson.START)
    # 0.15 * 0.05 + 0.20 * 0.10 = 0.0075 + 0.02, and 0.25 * 0.05 + 0.30 * 0.10 = 0.0125 + 0.03.
    assert (first.h1, first.h2) == pytest.approx((0.0275, 0.0425), abs=1e-15)
    # A sigmoid near 0 is 1/2 + x/4 - x^3/48 + x^5/480.
    assert first.a_h1 == pytest.approx(0.5 + 0.006875 - 0.0275**3 / 48, abs=1e-9)
    assert first.a_h2 == pytest.approx(0.5 + 0.010625 - 0.0425**3 / 48, abs=1e-9)
    # 0.40 * 0.506875 + 0.45 * 0.510623 = 0.202750 + 0.229780, and 0.50 * ... + 0.55 * ... = 0.253437 + 0.280843.
    assert (first.o1, first.o2) == pytest.approx((0.432530, 0.534280), abs=1e-6)
    # exp(-0.432530) = 0.648865 and 1 / 1.648865; exp(-0.534280) = 0.586091 and 1 / 1.586091.
    assert (first.a_o1, first.a_o2) == pytest.approx((0.606478, 0.630481), abs=1e-6)
    # 0.106478^2 / 2 = 0.0113376 / 2 and 0.130481^2 / 2 = 0.0170253 / 2.
    assert (first.e1, first.e2, first.e) == pytest.approx((0.00566878, 0.00851264, 0.01418142), abs=1e-7)


def test_the_first_derivatives_by_hand(lesson):
    # The last two factors of w5: 0.606478 * 0.393522 = 0.238662; and of w7: 0.630481 * 0.369519 = 0.232975.
    delta1, delta2 = 0.106478 * 0.238662, 0.130481 * 0.232975
    assert lesson.derivatives(lesson.START)[4:] == pytest.approx(
        (delta1 * 0.506875, delta1 * 0.510623, delta2 * 0.506875, delta2 * 0.510623), abs=1e-7
    )
    # Back over w5 and w7, 0.40 and 0.50, or w6 and w8, 0.45 and 0.55; the slopes are 0.249953 and 0.249887.
    back1, back2 = (0.40 * delta1 + 0.50 * delta2) * 0.249953, (0.45 * delta1 + 0.55 * delta2) * 0.249887
    assert lesson.derivatives(lesson.START)[:4] == pytest.approx(
        (back1 * 0.05, back1 * 0.10, back2 * 0.05, back2 * 0.10), abs=1e-8
    )


def test_every_step_takes_the_rate_times_the_derivative(lesson):
    for before, after in zip(lesson.walk[:10], lesson.walk[1:11], strict=True):
        expected = [weight - 0.5 * slope for weight, slope in zip(before, autograd_of_float64(before), strict=True)]
        assert after == pytest.approx(expected, rel=0, abs=1e-12)


def autograd_of_float64(weights):
    """As `autograd`, by torch.func and without layers."""
    inputs = torch.tensor([0.05, 0.10], dtype=torch.float64)

    def error(w1, w2):
        return ((0.5 - (w2 @ (w1 @ inputs).sigmoid()).sigmoid()) ** 2).sum() / 2

    matrices = torch.tensor(weights, dtype=torch.float64).view(2, 2, 2)
    return torch.cat(torch.func.grad(error, argnums=(0, 1))(*matrices)).flatten().tolist()


def test_the_run_meets_its_targets_and_leaves_its_files(lesson, out):
    assert all(target.met_by(value) for target, value in zip(lesson.targets, lesson.measured, strict=True))
    assert sorted(path.name for path in (out / "figures").iterdir()) == [
        "error_curves.png",
        "large_rates.png",
        "network.png",
    ]
    with (out / "steps.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 1001
    assert float(rows[0]["e"]) == lesson.forward(lesson.START).e
    assert tuple(float(rows[1000][f"w{number}"]) for number in range(1, 9)) == lesson.walk[1000]


def test_quick_prints_the_same_and_few_steps_do_no_harm(lesson, tmp_path, capsys):
    printed = []
    for mode in [], ["--quick"]:
        run(tmp_path, *mode)
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    run(tmp_path, "--epochs", "1")
    assert "steps that equal PyTorch's >= 1 " in capsys.readouterr().out


# What the text says.


def test_equal_rate_times_steps_gives_nearly_equal_errors(lesson):
    at_100 = [values[round(100 / rate)] for rate, values in lesson.errors.items()]
    assert at_100 == sorted(at_100, reverse=True)
    assert at_100[-1] / at_100[0] == pytest.approx(0.82, abs=0.005)  # "differ by a fifth"


def test_the_curves_do_not_cross(lesson):
    slower, *_ = curves = list(lesson.errors.values())
    for faster in curves[1:]:
        assert all(b < a for a, b in zip(slower[1:], faster[1:], strict=True) if a >= lesson.FLOOR)
        slower = faster


@pytest.mark.parametrize("rate", [0.1, 0.2, 0.5, 0.8, 1.0, 2.0, 10.0, 50.0, 200.0])
def test_near_the_goal_the_formula_gives_the_factor(lesson, rate):
    walk = {**lesson.walks, **lesson.large_walks}[rate]
    errors = [lesson.forward(weights).e for weights in walk]
    step = next(step for step, error in enumerate(errors) if error < 1e-8) if rate > 0.2 else 999
    f = lesson.forward(walk[step])
    predicted = (1 - rate * (f.a_h1**2 + f.a_h2**2) / 16) ** 2
    assert errors[step + 1] / errors[step] == pytest.approx(predicted, rel=2e-4)


def test_50_overshoots_each_time_and_falls(lesson):
    outputs = [lesson.forward(weights) for weights in lesson.large_walks[50.0][:30]]
    assert [(f.a_o1 > 0.5, f.a_o2 > 0.5) for f in outputs] == [(step % 2 == 0,) * 2 for step in range(30)]
    assert lesson.falls(lesson.large_errors[50.0])
    assert lesson.falls(lesson.large_errors[10.0])
    assert all(
        fifty < ten for ten, fifty in zip(lesson.large_errors[10.0][1:30], lesson.large_errors[50.0][1:30], strict=True)
    )


def test_200_is_thrown_out_and_comes_back_where_it_is_flatter(lesson):
    walk, errors = lesson.large_walks[200.0], lesson.large_errors[200.0]
    products = [200 * lesson.curvature(lesson.forward(weights)) for weights in walk]
    assert (round(products[0], 2), round(products[-1], 2)) == (6.47, 1.77)
    assert [step for step, product in enumerate(products) if product < 2][0] == 18
    assert (round(max(errors), 2), errors.index(max(errors))) == (0.17, 1)
    assert all(0.02 < error < 0.173 for error in errors[1:17])
    assert all(slope > 0 for weights in walk[:30] for slope in lesson.derivatives(weights)[:4])
    assert [round(weight, 1) for weight in walk[-1][:2]] == [-4.0, -8.1]
    assert lesson.derivatives(walk[1])[0] == pytest.approx(0.0019, abs=5e-5)


def test_200_without_sigmoids_flies_away(lesson):
    def straight(w):
        hidden = 0.5 + w[:4].view(2, 2) @ torch.tensor([0.05, 0.10], dtype=torch.float64) / 4
        return ((w[4:].view(2, 2) @ hidden / 4) ** 2).sum() / 2  # 0.5 cancels against the target

    w = torch.tensor(lesson.START, dtype=torch.float64)
    for _ in range(6):
        w = w - 200 * torch.func.grad(straight)(w)
    assert straight(w) > 1e100


def test_2000_is_saturated(lesson):
    walk, errors = lesson.large_walks[2000.0], lesson.large_errors[2000.0]
    first = lesson.forward(walk[1])
    assert (round(walk[1][4]), round(first.o1)) == (-25, -24)
    assert first.a_o1 == pytest.approx(5e-11, rel=0.05)
    assert max(map(abs, lesson.derivatives(walk[1]))) < 2e-11
    assert max(abs(a - b) for a, b in zip(walk[1], walk[-1], strict=True)) < 1e-4
    assert all(math.isclose(error, 0.25, abs_tol=1e-9) for error in errors[1:])


def test_between_10_and_50_lies_the_best(lesson):
    after = {rate: [lesson.forward(weights).e for weights in lesson.train(rate, 2)] for rate in (10, 31, 50)}
    assert after[31][1] < 1e-4
    assert after[31][2] < 1e-11
    assert min(after, key=lambda rate: after[rate][2]) == 31
