import numpy as np
import pytest
import torch
from conftest import pixels_of

from data_processor import FlowerDataset, read_flowers
from lab.defaults import required_losses
from lab.errors import UserError
from lab.plots import plot_latent, plot_losses, read_history
from VarAutoencoder import VarAutoencoder

TRAIN, VALID = [0.05, 0.02, 0.01], [0.04, 0.01, 0.015]


def history_of(first, second, names=("Train Loss", "Valid Loss")):
    rows = enumerate(zip(first, second, strict=True))
    return [{"Epoch": i + 1.0, names[0]: a, names[1]: b, "Valid Other": 7.0} for i, (a, b) in rows]


def words(axes):
    return [text.get_text() for text in axes.get_legend().texts]


def test_a_history_is_read(tmp_path):
    path = tmp_path / "history.csv"
    path.write_text("Epoch,Train Loss,Valid Loss,Valid Other\n1,0.05,4e-2,7\n2,0.02,0.01,7\n3,0.01,0.015,7\n")
    assert read_history(str(path)) == history_of(TRAIN, VALID)


HEAD = b"Epoch,Train Loss,Valid Loss"


@pytest.mark.parametrize(
    "content", [None, b"", b"\xff", HEAD, b"Epoch,Loss\n1,2", b"A,B,C\n1,2,3", HEAD + b"\n1,2", HEAD + b"\n1,2,x"]
)
def test_what_is_no_history_is_refused(content, tmp_path):
    path = tmp_path / "history.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"history.csv: found no history of losses in it; train again"):
        read_history(path)


@pytest.mark.parametrize(
    ("required", "bars"),
    [
        (required_losses("MLPAE"), {0.03: "train and valid"}),
        (required_losses("AE", "AdamW"), {0.01: "train", 0.012: "valid"}),
        (required_losses("AE", "SGD"), {0.015: "train"}),
        ({}, {}),
    ],
)
def test_losses_by_epoch(required, bars, figure, tmp_path):
    names = ("Train Loss", "Valid Loss") if required else ("Discriminator Loss", "Generator Loss")
    plot_losses("AE", history_of(TRAIN, VALID, names), 2, required, tmp_path / "loss.png")
    [axes] = figure().axes
    bar_labels = [f"the handout's bar for {whose}: {limit:g}" for limit, whose in bars.items()]
    assert words(axes) == [*names, "saved model, epoch 2: 0.0200 / 0.0100", *bar_labels]
    first, second, saved, *across = axes.lines
    np.testing.assert_array_equal(first.get_xydata().T, [[1, 2, 3], TRAIN])
    np.testing.assert_array_equal(second.get_xydata().T, [[1, 2, 3], VALID])
    np.testing.assert_array_equal(saved.get_xydata(), [(2, 0.01)])
    assert [(line.get_ydata()[0], *line.get_xdata()) for line in across] == [(limit, 0, 1) for limit in bars]
    styles = {line.get_linestyle() for line in (first, second, *across)}
    assert len(styles) == 2 + len(bars)  # what differs in colour also differs in line style
    assert axes.get_yscale() == "log" and pixels_of(tmp_path / "loss.png").shape[:2] == (540, 960)


@pytest.mark.parametrize(
    ("train", "valid", "scale", "shown"),
    [(0, 10, "linear", "0.0 / 10.0"), (9, -7e4, "linear", "9.0 / -70000.0"), (0.5, 9.99, "log", "0.5000 / 9.9900")],
)
def test_scale_of_the_losses_and_digits_in_the_legend(train, valid, scale, shown, figure, tmp_path):
    plot_losses("AE", history_of([*TRAIN, train], [*VALID, valid]), 4, {}, tmp_path / "loss.png")
    [axes] = figure().axes
    assert axes.get_yscale() == scale and words(axes)[2] == f"saved model, epoch 4: {shown}"


@pytest.fixture
def model():
    torch.manual_seed(0)
    return VarAutoencoder(5, (8, 8))


@torch.no_grad()
def test_interpolations_between_photos(figure, few_photos, model, tmp_path):
    training, validation = read_flowers(few_photos, 8, 8).split()
    plot_latent(model, training, validation, tmp_path / "latent.png", steps=3)
    *walks, _ = figure().axes
    shown = [torch.from_numpy(np.array(axes.images[0].get_array())).permute(2, 0, 1) for axes in walks]
    images, labels = validation[:]
    mu, _ = model.encode(images)
    ends = []
    for row in range(3):
        start, first, middle, last, end = shown[5 * row : 5 * row + 5]
        assert torch.equal(end, shown[5 * (row + 1) % 15])  # each walk begins where the last one ended
        (a,), (b,) = ([i for i in range(len(images)) if torch.equal(images[i], photo)] for photo in (start, end))
        torch.testing.assert_close(torch.stack([first, last]), model.decoder(mu[[a, b]]))
        torch.testing.assert_close(middle[None], model.decoder((mu[[a]] + mu[[b]]) / 2))
        ends.append(a)
    assert len(set(ends)) == 3 and labels[ends[:2]].tolist() == [0, 1]  # one of each class, if they are enough
    plot_latent(model, training, validation, tmp_path / "latent.png")
    assert len(figure().axes) == 3 * (8 + 2) + 1


@torch.no_grad()
def test_the_map_shows_the_first_two_principal_components(figure, few_photos, model, tmp_path):
    """They are found in another way here; each may point forward or backward."""
    training, validation = read_flowers(few_photos, 8, 8).split()
    plot_latent(model, training, validation, tmp_path / "latent.png")
    axes = figure().axes[-1]
    (means, _), (mu, _) = model.encode(training[:][0]), model.encode(validation[:][0])
    values, directions = np.linalg.eigh(np.cov(means.numpy().T))
    expected = (mu - means.mean(0)).numpy() @ directions[:, :-3:-1]
    expected = [expected[validation.labels == label] for label in (0, 1)]
    found = [np.asarray(points.get_offsets()) for points in axes.collections]
    signs = np.sign((np.concatenate(found) * np.concatenate(expected)).sum(0))
    for some, others in zip(found, expected, strict=True):
        np.testing.assert_allclose(some * signs, others, rtol=1e-3, atol=1e-5)
    first, second = values[:-3:-1] / values.sum()
    assert axes.get_xlabel() == f"1st principal component ({first:.0%} of the variance)"
    assert axes.get_ylabel() == f"2nd ({second:.0%})"
    assert words(axes) == ["rose", "tulip"] and axes.get_aspect() == 1  # distances can be compared


@pytest.mark.parametrize("number", [6, 36])
def test_classes_differ_in_colour_or_shape_and_have_their_names(number, figure, model, tmp_path):
    """A formula that is none would end in a traceback, and a name that begins with _ would be left out."""
    names = ["$x^$", "_rose", *(f"class {i}" for i in range(2, number))]
    pixels = torch.randint(256, (40, 3, 8, 8), dtype=torch.uint8)
    photos = FlowerDataset(pixels, torch.arange(40) % number, 40 * [""], names, 40 * [""], "flowers")
    plot_latent(model, photos, photos, tmp_path / "latent.png")
    axes = figure().axes[-1]
    dots = axes.collections
    looks = [(*points.get_facecolor()[0], points.get_paths()[0].vertices.tobytes()) for points in dots]
    assert len(set(looks)) == number
    legend = axes.get_legend() if number <= 6 else axes.figure.legends[0]
    assert [text.get_text() for text in legend.get_texts()] == [r"\$x^\$", *names[1:]]
    if number > 6:  # beside the map
        assert legend.get_window_extent().x0 > axes.bbox.x1 - 5


@pytest.mark.parametrize("encoding_dim", [1, 2])
def test_latent_space_of_two_photos(encoding_dim, few_photos, tmp_path, caplog):
    (few_photos / "tulip").rename(few_photos / "\u90c1\u91d1\u9999")  # tulip in Chinese, which not every font can write
    for photo in sorted(few_photos.rglob("*.jpg"))[2:]:
        photo.unlink()
    training, validation = read_flowers(few_photos, 8, 8).split()
    plot_latent(VarAutoencoder(encoding_dim, (8, 8)), training, validation, tmp_path / "latent.png")
    assert pixels_of(tmp_path / "latent.png").shape[:2] == (1080, 1080) and caplog.text == ""  # of missing fonts
