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
        "valley.png",
        "widening.png",
    ]
    with (out / "steps.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 1001
    assert float(rows[0]["e"]) == lesson.forward(lesson.START).e
    assert tuple(float(rows[1000][f"w{number}"]) for number in range(1, 9)) == lesson.walk[1000]


def test_every_way_of_training_prints_the_same_but_for_its_name(lesson, tmp_path, capsys):
    printed = []
    for train in "full", "quick", "recorded":
        run(tmp_path, f"--train={train}")
        printed.append(capsys.readouterr().out.replace(f"training   {train.capitalize()} run: ", "training   "))
    assert printed[0] == printed[1] == printed[2]
    assert "training   1,000 steps" in printed[0]


def test_few_steps_do_no_harm(tmp_path, capsys):
    run(tmp_path, "--epochs", "1")
    assert "steps that equal PyTorch's >= 1 " in capsys.readouterr().out


def test_wrong_derivatives_are_told_and_not_used(lesson, capsys):
    """Answers that are wrong by less than the smallest derivative, too."""
    f = lesson.forward(lesson.START)

    def de_dw8(f):
        return (f.a_o2 - 0.5) * f.a_o2 * (1 - f.a_o2) * f.a_h1  # the wrong hidden neuron

    def de_dw1(f, w5, w7):
        return (f.a_o1 - 0.5) * f.a_o1 * (1 - f.a_o1) * w5 * f.a_h1 * (1 - f.a_h1) * 0.05  # one path of two

    w5, w7 = lesson.START[4], lesson.START[6]
    for wrong, case, right in (
        (de_dw8, (f,), lesson.derivatives(lesson.START)[7]),
        (de_dw1, (f, w5, w7), lesson.derivatives(lesson.START)[0]),
    ):
        wrong.__globals__.setdefault("T1", 0.5), wrong.__globals__.setdefault("T2", 0.5)
        wrong.__globals__.setdefault("I1", 0.05)
        used = lesson.exercises.check(wrong, case, tolerance=1e-10)
        assert "not yet" in capsys.readouterr().out
        assert used(*case) == pytest.approx(right, rel=1e-12)


# What the text says.


def test_the_derivative_multiplied_out(lesson):
    assert [round(factor, 6) for factor in lesson.factors] == [0.106478, 0.238662, 0.506875]
    assert round(lesson.de_dw5, 5) == 0.01288
    assert lesson.de_dw5 == pytest.approx(lesson.derivatives(lesson.START)[4], rel=1e-12)
    assert round(0.1065 * 0.2387 * 0.5069, 5) == 0.01289  # "rounded to four"
    assert round(0.40 - 0.5 * 0.01288, 5) == 0.39356 == round(lesson.walk[1][4], 5)


def test_w1_is_forty_times_smaller_for_the_reasons_given(lesson):
    f, slopes = lesson.forward(lesson.START), lesson.derivatives(lesson.START)
    arrives = slopes[0] / (f.a_h1 * (1 - f.a_h1) * 0.05)
    assert arrives == pytest.approx(slopes[4] / f.a_h1, rel=0.01)  # "together as much as arrives at o1"
    assert round(slopes[4] / slopes[0]) == 41


def test_ten_steps_take_a_quarter_and_the_second_layer_does_it(lesson):
    assert 1 - lesson.forward(lesson.walk[10]).e / lesson.forward(lesson.START).e == pytest.approx(0.25, abs=0.01)
    moved = [before - after for before, after in zip(lesson.START, lesson.walk[10], strict=True)]
    assert round(moved[4] / moved[0]) == 43


def test_the_experiment_gives_what_its_fold_says(lesson):
    twice = tuple(2 * weight for weight in lesson.START)
    walks = [lesson.train(2.0), lesson.train(4.0), lesson.train(2.0, start=twice)]
    assert [lesson.steps_to(1e-6, walk) for walk in walks] == [73, 36, 83]
    assert 3.5 < lesson.forward(twice).e / lesson.forward(lesson.START).e < 4
    assert round((1 - 2 * lesson.curvature(lesson.forward(lesson.START))) ** 2, 2) == 0.87


def test_what_it_never_met_hardly_matters(lesson):
    assert all(abs(lesson.walk[-1][k] + lesson.walk[-1][k + 1]) < 0.001 for k in (4, 6))  # one cancels the other


def test_two_weights_alone_lie_on_a_valley(lesson):
    for rate in (10, 50):
        net = [lesson.output_1(*pair)[0] for pair in lesson.train_two(rate, 30)]
        factor = 1 - rate * lesson.curvature(lesson.forward(lesson.START))
        assert net[-1] / net[-2] == pytest.approx(factor, rel=1e-3)
    assert min(e for _, e in (lesson.output_1(*pair) for pair in lesson.train_two(200, 1000)[1:])) > 1e-6
    far = [lesson.output_1(*pair)[1] for pair in lesson.train_two(200, 1000)[-100:]]
    assert max(far) > 0.1


def test_the_sliders_two_rates_are_those_of_the_formula(lesson):
    """One step at 31; from 62 on the path ends no longer on the floor."""

    def ends(rate, steps):
        return lesson.output_1(*lesson.train_two(rate, steps)[-1])[1]

    assert ends(31, 1) < 1e-4
    assert ends(60, 1000) < 1e-12
    assert ends(64, 1000) > 1e-5


def test_the_figure_of_means_shows_the_run(lesson):
    """The surface of the means is the run's own error."""
    for state, (activation, weight) in zip(lesson.states, lesson.path, strict=True):
        assert lesson.error_of_means(activation, weight) == pytest.approx(state.e1, rel=0.02, abs=1e-6)
    across = [activation for activation, _ in lesson.path]
    assert across == sorted(across, reverse=True)  # "with each jump it moves to the left"
    assert across[17] > lesson.limit > across[18]
    assert max(abs(f.a_h1 - f.a_h2) for f in lesson.states) < 0.0038


def test_cross_entropy_leaves_saturation_and_squared_error_does_not(lesson):
    assert lesson.cross_entropy_slope(0.9, 0.2) == pytest.approx(0.7)
    assert lesson.sigmoid(lesson.w5 * lesson.f.a_h1 + lesson.w6 * lesson.f.a_h2) == pytest.approx(0.5, abs=1e-4)


def test_finite_differences_of_the_exercise_agree(lesson):
    assert lesson.slopes == pytest.approx(lesson.derivatives(lesson.START), rel=0, abs=1e-9)


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
    assert all(after < before for before, after in zip(errors[16:90], errors[17:91], strict=True))  # "steadily"
    assert all(slope > 0 for weights in walk[:30] for slope in lesson.derivatives(weights)[:4])
    assert [round(weight, 1) for weight in walk[-1][:2]] == [-4.0, -8.1]


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
