"""The two loaders against each other, against torchvision and PIL, and against values worked out by hand."""

import math
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch
import torchvision.transforms.functional as vision
from PIL import Image
from sklearn.datasets import load_digits
from torchvision import transforms

from common.data import loaders
from common.data.augmentation import central_crop, draw, warp
from common.data.loaders import MEAN, STD, InMemoryLoader, classic_loader
from common.recipe import ROOT, Augmentation

SOURCES = Augmentation(rotation=15, crop_probability=0.3)
EVERYTHING = Augmentation(rotation=20, translation=0.1, scale=(0.8, 1.2), shear=15, crop_probability=0.3)


def in_memory(digits, batch_size, **more):
    """A loader whose labels are the images' places."""
    return InMemoryLoader(digits, torch.arange(60), batch_size, classes=60, **more)


def classic(digits, batch_size, **more):
    """The same with the DataLoader."""
    return classic_loader(digits, torch.arange(60), batch_size, classes=60, **more)


@pytest.fixture(scope="module")
def digits():
    """60 handwritten digits, uint8 [60, 28, 28]; ink up to the edges, so that what comes from outside shows."""
    small = torch.from_numpy(load_digits().images[:60]).float()[:, None] * (255 / 16)
    return torch.nn.functional.interpolate(small, (28, 28), mode="bilinear").round().to(torch.uint8)[:, 0]


def pil(image):
    return Image.fromarray(image.numpy())


def grey(images):
    """Normalised images back to whole grey values."""
    values = (images * STD + MEAN) * 255
    assert (values - values.round()).abs().max() < 1e-3
    return values.round()


def near_a_half(angle, translation, scale, shear, height, width, within):
    """Bool [B, H, W]: output pixels whose source coordinate is within `within` pixels of a half, in float64.

    The transformation is put together step by step from its definition and inverted numerically.
    """
    ys, xs = np.mgrid[:height, :width]
    outputs = np.stack([xs.ravel() - (width - 1) / 2, ys.ravel() - (height - 1) / 2, np.ones(height * width)])
    masks = []
    for a, (tx, ty), s, k in zip(np.radians(angle), translation, scale, np.radians(shear), strict=True):
        move = np.array([[1, 0, tx], [0, 1, ty], [0, 0, 1]])
        rotate = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
        slant = np.array([[1, -np.tan(k), 0], [0, 1, 0], [0, 0, 1]])
        x, y, _ = np.linalg.inv(move @ rotate @ np.diag([s, s, 1]) @ slant) @ outputs
        pixels = np.stack([x + (width - 1) / 2, y + (height - 1) / 2])
        masks.append((np.abs(pixels - np.floor(pixels) - 0.5) < within).any(0).reshape(height, width))
    return torch.from_numpy(np.stack(masks))


def parameters(count, angle=0.0, translation=0.0, scale=0.0, shear=0.0):
    """Random angles, shifts, scales and shears, each up to the given size."""
    spread = torch.empty(5, count).uniform_(-1, 1, generator=torch.Generator().manual_seed(3))
    return spread[0] * angle, (spread[1:3] * translation).T, (spread[3] * scale).exp(), spread[4] * shear


def lists(*tensors):
    return [tensor.double().tolist() for tensor in tensors]


# The warp and the crop


@pytest.mark.parametrize(
    "sizes",
    [
        {"angle": 180},
        {"angle": 5},
        {"translation": 9},
        {"scale": 0.7},
        {"shear": 50},
        {"angle": 180, "translation": 9, "scale": 0.7, "shear": 50},
    ],
    ids=lambda sizes: "+".join(sizes) + f" {next(iter(sizes.values()))}",
)
@pytest.mark.parametrize("height", [28, 21])
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_the_warp_equals_torchvisions_affine_image_by_image(digits, sizes, height, interpolation):
    images = digits[:, None, :height].float() / 255
    drawn = parameters(len(images), **sizes)
    found = warp(images, *drawn, interpolation)
    mode = transforms.InterpolationMode(interpolation)
    expected = torch.stack(
        [
            vision.affine(image, angle, shift, scale, [shear, 0.0], mode)
            for image, angle, shift, scale, shear in zip(images, *lists(*drawn), strict=True)
        ]
    )
    wrong = ((found - expected).abs() > 1e-4)[:, 0]
    if interpolation == "nearest":
        undecided = near_a_half(*lists(*drawn), height, 28, within=1e-5)
        assert undecided.float().mean() < 1e-3
        wrong &= ~undecided
    assert not wrong.any()


@pytest.mark.parametrize(
    ("pixel", "angle", "translation", "scale", "shear", "expected"),
    [
        # row 3, column 20 is 6.5 right of the centre and 10.5 above it; a quarter turn clockwise makes that 10.5 right
        # and 6.5 below
        ((3, 20), 90, (0, 0), 1, 0, [(20, 24)]),
        ((3, 20), 0, (2, -1), 1, 0, [(2, 22)]),
        ((3, 20), 90, (2, -1), 1, 0, [(19, 26)]),  # the shift comes after the rotation
        # 1.5 right and 1.5 above becomes 4.5 and 4.5, three pixels wide and high
        ((12, 15), 0, (0, 0), 3, 0, [(row, column) for row in (8, 9, 10) for column in (17, 18, 19)]),
        # tan k = 2 moves a row that is 3.5 above the centre to the right by 7
        ((10, 15), 0, (0, 0), 1, math.degrees(math.atan(2)), [(10, 22)]),
        # ... and the quarter turn comes after the shear: 8.5 right and 3.5 above become 3.5 right and 8.5 below
        ((10, 15), 90, (0, 0), 1, math.degrees(math.atan(2)), [(22, 17)]),
        ((3, 20), 0, (8, 0), 1, 0, []),  # past the edge
    ],
)
def test_the_warp_moves_a_pixel_where_the_hand_calculation_says(pixel, angle, translation, scale, shear, expected):
    image = torch.zeros(1, 1, 28, 28)
    image[0, 0][pixel] = 1
    amounts = (torch.tensor([value], dtype=torch.float32) for value in (angle, translation, scale, shear))
    assert [tuple(place) for place in warp(image, *amounts, "nearest")[0, 0].nonzero().tolist()] == expected


@pytest.mark.parametrize("largest", [5, 15, 180])
def test_the_nearest_pixel_of_a_rotation_is_the_one_that_pil_takes(digits, largest):
    angle, shift, scale, shear = parameters(len(digits), angle=largest)
    found = warp(digits[:, None].float(), -angle, shift, scale, shear, "nearest")[:, 0]  # PIL turns the other way
    turned = [vision.rotate(pil(image), degrees) for image, degrees in zip(digits, angle.tolist(), strict=True)]
    expected = torch.cat([vision.pil_to_tensor(image) for image in turned])
    undecided = near_a_half(
        *lists(-angle, shift, scale, shear), 28, 28, within=5e-4
    )  # PIL: 28 sums of 16-bit fractions
    assert undecided.float().mean() < 5e-3
    assert not ((found != expected) & ~undecided).any()


@pytest.mark.parametrize("size", [1, 20, 21, 22, 25, 27, 28])
def test_the_crop_equals_torchvisions_on_pil_images(digits, size):
    noise = torch.randint(0, 256, (60, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images = torch.cat([digits, noise])
    chain = transforms.Compose([transforms.CenterCrop(size), transforms.Resize((28, 28)), transforms.PILToTensor()])
    expected = torch.stack([chain(pil(image)) for image in images])
    torch.testing.assert_close(central_crop(images[:, None].float(), size), expected.float(), rtol=0, atol=0)


# The loaders against torchvision


@pytest.mark.parametrize("workers", [0, 1])
def test_without_augmentation_both_loaders_give_the_same_tensors(digits, workers):
    labels = torch.arange(60) % 10
    fast = list(InMemoryLoader(digits, labels, 16))
    classic = list(classic_loader(digits, labels, 16, workers=workers))
    assert [len(y) for _, y in fast] == [len(y) for _, y in classic] == [16, 16, 16, 12]
    for (x, y), (expected_x, expected_y) in zip(fast, classic, strict=True):
        assert x.shape == expected_x.shape and x.dtype == torch.float32 and y.dtype == torch.int64
        torch.testing.assert_close(x, expected_x, rtol=0, atol=1e-6)
        assert torch.equal(y, expected_y)
    assert fast[0][0][0, 0, 5, 5].item() == pytest.approx((digits[0, 5, 5].item() / 255 - 0.1307) / 0.3081, abs=1e-6)


@pytest.mark.parametrize("augmentation", [SOURCES, EVERYTHING], ids=["sources", "everything"])
def test_an_augmented_epoch_equals_torchvisions_functions_with_the_same_draws(digits, augmentation):
    loader = InMemoryLoader(
        digits, torch.arange(60), classes=60, batch_size=16, augmentation=augmentation, shuffle=True, seed=7
    )
    draws = draw(60, 28, augmentation, torch.Generator().manual_seed(7), shuffle=True)
    images, labels = (torch.cat(parts) for parts in zip(*loader, strict=True))
    assert torch.equal(labels, draws.order)
    assert 0 < draws.crop.sum() < 60
    affine = lists(draws.angle, draws.translation, draws.scale, draws.shear)
    expected = []
    for place, crop, angle, shift, scale, shear in zip(draws.order, draws.crop, *affine, strict=True):
        image = pil(digits[place])
        if crop:
            image = vision.resize(vision.center_crop(image, [22, 22]), [28, 28])
        image = vision.affine(image, angle, shift, scale, [shear, 0.0])
        expected.append(vision.normalize(vision.to_tensor(image), [MEAN], [STD]))
    undecided = near_a_half(*affine, 28, 28, within=5e-4)
    assert undecided.float().mean() < 5e-3
    assert not (((images - torch.stack(expected)).abs() > 1e-6)[:, 0] & ~undecided).any()


def test_the_crop_meets_the_images_that_were_drawn_in_every_part_of_an_epoch(digits):
    """The loader changes some 512 images at once."""
    count, crops = 1_200, Augmentation(crop_probability=0.3)
    images, labels = digits[4].expand(count, 28, 28), torch.zeros(count, dtype=torch.int64)
    found = grey(torch.cat([x for x, _ in InMemoryLoader(images, labels, 16, augmentation=crops, seed=7)]))
    drawn = draw(count, 28, crops, torch.Generator().manual_seed(7), shuffle=False).crop
    assert torch.equal((found[:, 0] != digits[4]).any(2).any(1), drawn)


def test_the_bilinear_recipe_reaches_the_warp(digits):
    smooth = Augmentation(rotation=30, interpolation="bilinear")
    x, y = next(iter(in_memory(digits, 60, augmentation=smooth, seed=1)))
    angle = draw(60, 28, smooth, torch.Generator().manual_seed(1), shuffle=False).angle.tolist()
    mode = transforms.InterpolationMode.BILINEAR
    turned = [
        vision.affine(i[None] / 255, a, [0, 0], 1.0, [0.0, 0.0], mode) for i, a in zip(digits, angle, strict=True)
    ]
    torch.testing.assert_close(x, (torch.stack(turned) - MEAN) / STD, rtol=0, atol=1e-4)


@pytest.mark.parametrize("augmentation", [SOURCES, EVERYTHING], ids=["sources", "everything"])
def test_the_mean_augmented_image_is_the_same_from_both_loaders(digits, augmentation):
    count = 3000
    images, labels = digits[4].expand(count, 28, 28), torch.zeros(count, dtype=torch.int64)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        classic = torch.cat([x for x, _ in classic_loader(images, labels, 500, augmentation=augmentation)])
    fast = torch.cat([x for x, _ in InMemoryLoader(images, labels, 500, augmentation=augmentation)])
    error = ((classic.var(0) + fast.var(0)) / count).sqrt().clamp(min=0.01)
    assert ((classic.mean(0) - fast.mean(0)).abs() / error).max() < 5


@pytest.mark.parametrize("make", [classic_loader, InMemoryLoader])
def test_the_crop_meets_a_fraction_p_of_the_images(digits, make):
    count, p = 4000, 0.1
    images, labels = digits[4].expand(count, 28, 28), torch.zeros(count, dtype=torch.int64)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        loader = make(images, labels, 500, augmentation=Augmentation(crop_probability=p))
        found = grey(torch.cat([x for x, _ in loader]))
    plain = digits[4].float()
    cropped = central_crop(plain[None, None], 22)[0, 0]
    assert not torch.equal(plain, cropped)
    is_plain, is_cropped = ((found[:, 0] == image).all((1, 2)) for image in (plain, cropped))
    assert (is_plain | is_cropped).all()
    assert abs(is_cropped.float().mean().item() - p) < 4 * (p * (1 - p) / count) ** 0.5


def test_the_draws_are_uniform():
    count, augmentation = 60_000, Augmentation(5, 0.1, (0.9, 1.2), 8, 0.1)
    draws = draw(count, 28, augmentation, torch.Generator().manual_seed(0), shuffle=True)
    assert abs(draws.crop.float().mean().item() - 0.1) < 4 * (0.09 / count) ** 0.5
    for values, low, high in [(draws.angle, -5, 5), (draws.scale, 0.9, 1.2), (draws.shear, -8, 8)]:
        assert low <= values.min() and values.max() <= high
        # Kolmogorov-Smirnov: the largest gap exceeds 1.95 / sqrt(n) once in a thousand times
        gap = ((values.double().sort().values - low) / (high - low) - (torch.arange(count) + 0.5) / count).abs().max()
        assert gap < 1.95 / count**0.5
    # 2.8 pixels at most, rounded: -3 and 3 take 0.3 of the range 5.6, the others 1
    for axis in draws.translation.T:
        shares = [0.3 / 5.6, *[1 / 5.6] * 5, 0.3 / 5.6]
        for pixels, share in zip(range(-3, 4), shares, strict=True):
            assert abs((axis == pixels).float().mean().item() - share) < 4 * (share * (1 - share) / count) ** 0.5
    continuous = torch.stack([draws.angle, draws.scale, draws.shear, draws.crop, *draws.translation.T])
    assert (torch.corrcoef(continuous) - torch.eye(6)).abs().max() < 4 / count**0.5


# An epoch


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("make", [classic_loader, InMemoryLoader])
def test_every_image_comes_once_an_epoch_with_its_own_label_and_the_last_batch_is_short(make, shuffle):
    count = 103
    images = torch.arange(count, dtype=torch.uint8)[:, None, None].expand(count, 28, 28).contiguous()
    loader = make(images, torch.arange(count), 10, shuffle=shuffle, classes=count)
    assert len(loader) == 11
    for _ in range(2):
        batches = list(loader)
        assert [len(y) for _, y in batches] == [10] * 10 + [3]
        shown = grey(torch.cat([x for x, _ in batches])).long()
        labels = torch.cat([y for _, y in batches])
        assert torch.equal(shown, labels[:, None, None, None].expand_as(shown))
        assert torch.equal(labels.sort().values, torch.arange(count))
        assert torch.equal(labels, torch.arange(count)) is not shuffle
    assert torch.equal(images[:, 9, 9], torch.arange(count, dtype=torch.uint8))


def test_a_batch_as_large_as_the_set_or_larger_is_one_batch(digits):
    for size in (60, 61):
        loader = in_memory(digits, size, augmentation=EVERYTHING)
        assert len(loader) == 1 and [len(y) for _, y in loader] == [60]


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_a_probability_of_zero_or_one_leaves_nothing_to_chance(digits, probability):
    augmentation = Augmentation(crop_probability=probability, crop_size=20)
    x = torch.cat([x for x, _ in in_memory(digits, 7, augmentation=augmentation)])
    plain = digits[:, None].float()
    assert torch.equal(grey(x), central_crop(plain, 20) if probability else plain)


def test_batches_without_a_single_crop_are_fine(digits):
    rare = Augmentation(crop_probability=0.02)
    assert sum(len(y) for _, y in in_memory(digits, 1, augmentation=rare)) == 60


def test_what_is_switched_off_is_not_computed(digits, monkeypatch):
    def computed(*_):
        raise AssertionError("computed although it changes nothing")

    for name in ("affine_resample", "inverse_matrix", "central_crop"):
        monkeypatch.setattr(loaders, name, computed)
    assert len(list(in_memory(digits, 16, shuffle=True))) == 4


# Seeds


def epochs(loader, count):
    return [torch.cat([x.flatten(1) + 10 * y[:, None] for x, y in loader]) for _ in range(count)]


def augmented(digits, seed=0):
    return InMemoryLoader(
        digits, torch.arange(60), classes=60, batch_size=16, augmentation=EVERYTHING, shuffle=True, seed=seed
    )


def test_equal_seeds_give_equal_epochs_and_every_epoch_is_new(digits):
    first, again = epochs(augmented(digits), 3), epochs(augmented(digits), 3)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in pairwise(first))
    assert not torch.equal(first[0], epochs(augmented(digits, seed=1), 1)[0])


def test_a_restored_loader_goes_on_bit_for_bit(digits, tmp_path):
    loader = augmented(digits)
    epochs(loader, 2)
    state = loader.state_dict()
    assert all(value.dtype == torch.uint8 for value in state.values())
    torch.save(state, tmp_path / "state.pt")
    expected = epochs(loader, 2)
    resumed = augmented(digits, seed=99)
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert all(torch.equal(a, b) for a, b in zip(epochs(resumed, 2), expected, strict=True))


def test_the_global_generator_neither_acts_on_the_loader_nor_is_touched_by_it(digits):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        before = torch.random.get_rng_state()
        first = epochs(augmented(digits), 1)[0]
        assert torch.equal(torch.random.get_rng_state(), before)
        torch.manual_seed(2)
        assert torch.equal(epochs(augmented(digits), 1)[0], first)


def test_the_classic_loaders_seed_governs_the_order_and_with_workers_the_augmentation(digits):
    def labels(seed):
        return torch.cat([y for _, y in classic(digits, 16, shuffle=True, seed=seed)])

    def augmented_by_a_worker():
        loader = classic_loader(
            digits, torch.arange(60), classes=60, batch_size=60, augmentation=EVERYTHING, seed=5, workers=1
        )
        return epochs(loader, 1)[0]

    assert torch.equal(labels(3), labels(3))
    assert not torch.equal(labels(3), labels(4))
    assert torch.equal(augmented_by_a_worker(), augmented_by_a_worker())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU with CUDA")
def test_the_batches_on_a_gpu_are_those_of_the_cpu(digits):
    crops = Augmentation(crop_probability=0.5)
    on = {
        device: epochs(
            InMemoryLoader(
                digits, torch.arange(60), classes=60, batch_size=16, augmentation=crops, shuffle=True, device=device
            ),
            2,
        )
        for device in ("cpu", "cuda")
    }
    torch.testing.assert_close([epoch.cpu() for epoch in on["cuda"]], on["cpu"], rtol=0, atol=1e-4)


# Mistakes


@pytest.mark.parametrize("make", [classic_loader, InMemoryLoader])
@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"batch_size": 0}, "at least one image, not 0"),
        ({"labels": torch.arange(59)}, "not 60, 59"),
        ({"images": torch.zeros(0, 28, 28, dtype=torch.uint8), "labels": torch.arange(0)}, "not 0, 0"),
        ({"images": torch.zeros(60, 28, 28)}, r"uint8 of shape \[N, S, S\], not torch.float32"),
        ({"images": torch.zeros(60, 1, 28, 28, dtype=torch.uint8)}, r"not torch.uint8 of \[60, 1, 28, 28\]"),
        ({"labels": torch.arange(60) % 11}, "from 0 to 9, and 5 are not, such as 10"),
        ({"labels": torch.arange(60) % 10 - 1}, "from 0 to 9, and 6 are not, such as -1"),
        ({"images": [[[0]]]}, r"uint8 of shape \[N, S, S\], not torch.int64"),
        ({"labels": torch.zeros(60)}, r"int64 of shape \[N\], not torch.float32"),
        ({"augmentation": Augmentation(crop_probability=0.1, crop_size=29)}, "no central crop of side 29"),
    ],
    ids=lambda value: value if isinstance(value, str) else "+".join(value),
)
def test_arguments_that_do_not_fit_get_one_clear_sentence(digits, make, changes, sentence):
    arguments = {"images": digits, "labels": torch.arange(60) % 10, "batch_size": 16, **changes}
    with pytest.raises(ValueError, match=sentence):
        make(**arguments)


@pytest.mark.parametrize("make", [InMemoryLoader, classic_loader])
def test_numpy_arrays_are_taken_as_they_are(digits, make):
    arrays = digits.numpy(), (torch.arange(60) % 10).numpy().astype("uint8")
    (images, labels), (same_images, same_labels) = (
        next(iter(make(*both, 60))) for both in (arrays, (digits, torch.arange(60) % 10))
    )
    assert torch.equal(images, same_images) and torch.equal(labels, same_labels) and labels.dtype == torch.int64


@pytest.mark.parametrize("make", [InMemoryLoader, classic_loader])
def test_numpy_arrays_that_no_tensor_can_share_are_copied(digits, make, recwarn):
    """Mirrored ones have negative strides, and those of a memory map cannot be written."""
    mirrored, labels = digits.numpy()[:, :, ::-1], (torch.arange(60) % 10).numpy()
    labels.flags.writeable = False
    images, _ = next(iter(make(mirrored, labels, 60)))
    assert torch.equal(images, next(iter(make(digits.flip(2), labels, 60)))[0])
    assert not recwarn.list


@pytest.mark.parametrize("make", [InMemoryLoader, classic_loader])
@pytest.mark.parametrize("labels", [None, ["one"] * 60, [[1, 2], [3]]])
def test_what_is_no_array_of_numbers_gets_one_sentence(digits, make, labels):
    with pytest.raises(ValueError, match=r"^Labels must be numbers in a tensor or a NumPy array, not a \w+\.$"):
        make(digits, labels, 16)


def test_what_a_lesson_imports_first_leaves_out_what_few_need():
    """torchvision's transforms and scikit-image take two seconds to import, more than all the rest."""
    code = (
        "import sys\nfrom common import data, models, records, training\nfrom common.lesson import Exercises, plots\n"
        "print([name for name in ('torchvision', 'skimage', 'numba', 'sklearn') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
