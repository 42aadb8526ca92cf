import numpy as np
import pytest
import torch
from conftest import pixels_of

from data_processor import FlowerDataset, read_flowers
from lab.errors import UserError
from lab.handout import asked_losses
from lab.plots import plot_latent, plot_losses, read_history
from VarAutoencoder import VarAutoencoder

HISTORY = [
    {"Epoch": epoch + 1.0, "Train Loss": train, "Valid Loss": valid, "Valid Other": 7.0}
    for epoch, (train, valid) in enumerate([(0.05, 0.04), (0.02, 0.01), (0.01, 0.015)])
]
BLUE, ORANGE, GRAY = "#0072B2", "#D55E00", "#595959"
OKABE_AND_ITO = {BLUE, ORANGE, "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000"}


def drawn(figure):
    """The only axes of a figure, and its lines by their labels."""
    [axes] = figure.axes
    return axes, {line.get_label(): line for line in axes.lines}


def words(axes):
    return [text.get_text() for text in axes.get_legend().texts]


def test_reading_a_history(tmp_path):
    path = tmp_path / "history.csv"
    path.write_text("Epoch,Train Loss,Valid Loss,Valid Other\n1,0.5,-2.5e-3,7\n2,0.25,1,8\n")
    assert read_history(str(path)) == [
        {"Epoch": 1.0, "Train Loss": 0.5, "Valid Loss": -0.0025, "Valid Other": 7.0},
        {"Epoch": 2.0, "Train Loss": 0.25, "Valid Loss": 1.0, "Valid Other": 8.0},
    ]
    path.write_bytes(b"\xff")
    with pytest.raises(UserError, match=r"history.csv: found no history of losses in it; train again, or give another"):
        read_history(path)
    head = "Epoch,Train Loss,Valid Loss"
    for content in "", head, "Epoch,Train Loss\n1,2", "Train Loss,Valid Loss\n1,2", f"{head}\n1,2", f"{head}\n1,2,x":
        path.write_text(content)
        with pytest.raises(UserError, match="found no history of losses"):
            read_history(path)
    path.unlink()
    with pytest.raises(UserError, match="found no history of losses"):
        read_history(path)


@pytest.mark.parametrize(
    ("asked", "bars"),
    [
        (asked_losses("MLPAE"), {0.03: "train and valid"}),
        (asked_losses("AE", "AdamW"), {0.01: "train", 0.012: "valid"}),
        (asked_losses("AE", "SGD"), {0.015: "train"}),
        (asked_losses("GAN", "AdamW"), {}),
    ],
)
def test_losses(asked, bars, figure, tmp_path):
    plot_losses(["title"], HISTORY, 2, asked, tmp_path / "loss.png")
    axes, lines = drawn(figure())
    assert (axes.get_title(), axes.get_xlabel(), axes.get_ylabel()) == ("title", "Epoch", "Loss")
    bar_labels = [f"the handout's bar for {whose}: {limit:g}" for limit, whose in bars.items()]
    assert words(axes) == ["Train Loss", "Valid Loss", "best epoch 2: 0.0200 / 0.0100", *bar_labels] == list(lines)
    train, valid, best, *across = lines.values()
    np.testing.assert_array_equal(train.get_xydata(), [(1, 0.05), (2, 0.02), (3, 0.01)])
    np.testing.assert_array_equal(valid.get_xydata(), [(1, 0.04), (2, 0.01), (3, 0.015)])
    np.testing.assert_array_equal(best.get_xydata(), [(2, 0.01)])
    assert best.get_marker() == "o" and best.get_markersize() > 8 and best.get_markerfacecolor() == "white"
    assert [line.get_color() for line in (train, valid, best)] == [BLUE, ORANGE, ORANGE]
    styles = [line.get_linestyle() for line in (train, valid, *across)]
    assert len(set(styles)) == len(styles)  # what differs in colour also differs in line style
    for line, limit in zip(across, bars, strict=True):
        assert list(line.get_ydata()) == [limit, limit] and line.get_color() == GRAY
        assert list(line.get_xdata()) == [0, 1]  # of the width of the axes
    assert all(epoch == round(epoch) for epoch in axes.get_xticks())
    assert pixels_of(tmp_path / "loss.png").shape[:2] == (540, 960)
    spines = {name for name, spine in axes.spines.items() if spine.get_visible()}
    assert spines == {"left", "bottom"} and not axes.get_legend().get_frame_on()


@pytest.mark.parametrize(
    ("train", "valid", "shown"),
    [
        (0.02, 0.01, "0.0200 / 0.0100"),
        (9.99994, 1, "9.9999 / 1.0000"),
        (1, 10, "1.0 / 10.0"),
        (-7e4, 1, "-70000.0 / 1.0"),
    ],
)
def test_losses_in_the_legend(train, valid, shown, figure, tmp_path):
    """With four digits, or with one if a loss is 10 or more."""
    rows = [{"Epoch": epoch, "Train Loss": loss, "Valid Loss": valid} for epoch, loss in ((1.0, 5.0), (2.0, train))]
    plot_losses(["title"], rows, 2, {}, tmp_path / "loss.png")
    assert words(figure().axes[0])[2] == f"best epoch 2: {shown}"


@pytest.mark.parametrize("name", ["Train Loss", "Valid Loss"])
def test_losses_of_one_epoch_or_not_above_zero(name, figure, tmp_path):
    plot_losses(["title"], HISTORY[:1], 1, {}, tmp_path / "loss.png")
    assert figure().axes[0].get_yscale() == "log"
    for loss in 0, -7e4:
        plot_losses(["title"], [*HISTORY, HISTORY[0] | {name: loss}], 2, {}, tmp_path / "loss.png")
        assert figure().axes[0].get_yscale() == "linear"


def test_the_scale_of_the_losses_is_labelled_with_plain_numbers(figure, tmp_path):
    plot_losses(["title"], HISTORY, 2, {}, tmp_path / "loss.png")
    axes, _ = drawn(figure())
    low, high = axes.get_ylim()
    labels = {
        label.get_text() for label in axes.get_yticklabels(which="both") if low <= label.get_position()[1] <= high
    }
    assert labels - {""} == {"0.01", "0.015", "0.02", "0.03", "0.05"}
    # Lines of the grid run across at these values, and none up and down.
    assert [line.get_visible() for line in (axes.get_ygridlines()[0], axes.get_xgridlines()[0])] == [True, False]


@pytest.fixture
def model():
    torch.manual_seed(0)
    return VarAutoencoder(5, (8, 8))


def test_interpolations_between_photos(figure, few_photos, model, tmp_path):
    training, validation = read_flowers(few_photos, 8, 8).split()
    plot_latent("title", model, training, validation, tmp_path / "latent.png", steps=3)
    assert figure().get_suptitle() == "title"
    *walks, _ = figure().axes
    assert len(walks) == 3 * 5 and not any(axes.axison for axes in walks)
    shown = [torch.from_numpy(np.array(axes.images[0].get_array())).permute(2, 0, 1) for axes in walks]
    ends = []
    with torch.no_grad():
        images, labels = validation[:]
        mu, _ = model.encode(images)
        for row in range(3):
            start, first, middle, last, end = shown[5 * row : 5 * row + 5]
            assert torch.equal(end, shown[5 * (row + 1) % 15])  # each walk begins where the last one ended
            (a,), (b,) = ([i for i in range(len(images)) if torch.equal(images[i], photo)] for photo in (start, end))
            torch.testing.assert_close(torch.stack([first, last]), model.decoder(mu[[a, b]]))
            torch.testing.assert_close(middle[None], model.decoder((mu[[a]] + mu[[b]]) / 2))
            ends.append(a)
    assert len(set(ends)) == 3 and labels[ends[:2]].tolist() == [0, 1]  # one of each kind, if they are enough

    plot_latent("title", model, training, validation, tmp_path / "latent.png")
    assert len(figure().axes) == 3 * (8 + 2) + 1
    top, bottom = (axes.figure.bbox for axes in (figure().axes[0], figure().axes[-1]))
    assert 0 <= top.y0 - bottom.y1 < 20 and top.height / bottom.height == pytest.approx(3 / 5, abs=0.02)
    assert pixels_of(tmp_path / "latent.png").shape[:2] == (1080, 1080)


def test_the_map_shows_the_first_two_principal_components(figure, few_photos, model, tmp_path):
    """They are found in another way here; each may point forward or backward."""
    training, validation = read_flowers(few_photos, 8, 8).split()
    plot_latent("title", model, training, validation, tmp_path / "latent.png")
    axes = figure().axes[-1]
    images, labels = validation[:]
    with torch.no_grad():
        means, mu = model.encode(training[:][0])[0].numpy(), model.encode(images)[0].numpy()
    values, directions = np.linalg.eigh(np.cov(means.T))
    expected = (mu - means.mean(0)) @ directions[:, :-3:-1]
    dots = axes.collections
    assert words(axes) == ["rose", "tulip"] and len(dots) == 2
    found = [np.asarray(points.get_offsets()) for points in dots]
    signs = np.sign((np.concatenate(found) * np.concatenate([expected[labels == label] for label in (0, 1)])).sum(0))
    for label in 0, 1:
        np.testing.assert_allclose(found[label] * signs, expected[labels == label], rtol=1e-3, atol=1e-5)
    first, second = values[:-3:-1] / values.sum()
    assert axes.get_xlabel() == f"1st principal component ({first:.0%} of the variance)"
    assert axes.get_ylabel() == f"2nd ({second:.0%})"
    assert axes.get_aspect() == 1  # distances can be compared
    sizes = [
        handle.get_sizes() if hasattr(handle, "get_sizes") else None for handle in axes.get_legend().legend_handles
    ]
    assert all(size > points.get_sizes() for size, points in zip(sizes, dots, strict=True))


def photos_of(*kinds):
    """Forty random pictures, and as many kinds of flower."""
    pixels = torch.randint(256, (40, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    names = [str(i) for i in range(40)]
    return FlowerDataset(pixels, torch.arange(40) % len(kinds), names, list(kinds), torch.arange(40), "flowers")


@pytest.mark.parametrize("number", [2, 6, 7, 16, 36])
def test_kinds_differ_in_colour_or_in_shape(number, figure, model, tmp_path):
    kinds = [f"kind {i}" for i in range(number)]
    photos = photos_of(*kinds)
    plot_latent("title", model, photos, photos, tmp_path / "latent.png")
    axes = figure().axes[-1]
    dots = axes.collections
    colours = [tuple((points.get_facecolor()[0, :3] * 255).round().astype(int)) for points in dots]
    shapes = [points.get_paths()[0].vertices.tobytes() for points in dots]
    assert len(set(zip(colours, shapes, strict=True))) == number
    assert len(set(colours)) == len(set(shapes)) == min(number, 6)
    assert {"#{:02X}{:02X}{:02X}".format(*colour) for colour in colours} <= OKABE_AND_ITO
    assert all(0.5 < points.get_alpha() < 1 for points in dots)
    # The names of many kinds stand beside the map, whole, and neither upon it nor beyond the edge.
    legend = axes.get_legend() if number <= 6 else axes.figure.legends[0]
    assert [text.get_text() for text in legend.get_texts()] == kinds
    assert [handle.get_facecolor()[0].tolist() for handle in legend.legend_handles] == [
        points.get_facecolor()[0].tolist() for points in dots
    ]
    if number > 6:
        box = legend.get_window_extent()
        assert box.x0 > axes.bbox.x1 - 5 and box.x1 <= axes.figure.bbox.x1 and axes.figure.bbox.y0 <= box.y0
    assert axes.yaxis.get_label().get_window_extent().x0 >= 0


def test_names_of_kinds_are_drawn_as_they_are(figure, model, tmp_path):
    """A formula that is none would end in a traceback, and a name that begins with _ would be left out."""
    photos = photos_of("$x^$", "_rose", r"\frac{", "a\nb\x1b[2J", "n" * 1000)
    plot_latent("title", model, photos, photos, tmp_path / "latent.png")
    assert words(figure().axes[-1]) == ["$x^$", "_rose", r"\frac{", "a b?[2J", "n" * 40]


def test_latent_means_of_more_photos_than_are_encoded_at_once(figure, few_photos, model, tmp_path):
    photos = read_flowers(few_photos, 8, 8)
    plot_latent("title", model, photos, photos, tmp_path / "few.png")
    few = figure().axes[-1]
    many = [photos.labels.repeat(15), 15 * photos.names, photos.classes, photos.rows.repeat(15), photos.root]
    photos = FlowerDataset(photos.pixels, *many)
    plot_latent("title", model, photos, photos, tmp_path / "many.png")
    for points, more in zip(few.collections, figure().axes[-1].collections, strict=True):
        assert len(more.get_offsets()) == 150
        np.testing.assert_allclose(abs(more.get_offsets()), abs(np.tile(points.get_offsets(), (15, 1))), atol=1e-5)


@pytest.mark.parametrize("number", [2, 3, 7])
def test_latent_spaces_with_little_in_them(number, few_photos, tmp_path, caplog):
    (few_photos / "tulip").rename(few_photos / "\u90c1\u91d1\u9999")  # tulip in Chinese, which not every font can write
    photos = sorted(few_photos.rglob("*.jpg"))
    for photo in photos[number:]:
        photo.unlink()
    for encoding_dim in 1, 2:
        training, validation = read_flowers(few_photos, 8, 8).split()
        path = tmp_path / "latent.png"
        plot_latent("title", VarAutoencoder(encoding_dim, (8, 8)), training, validation, path)
        assert pixels_of(path).shape[:2] == (1080, 1080)
    assert caplog.text == ""  # of fonts that this machine lacks


def test_two_plots_where_the_losses_are_different_quantities(figure, tmp_path):
    plot_losses(["above", "below"], HISTORY, 2, {}, tmp_path / "loss.png")
    above, below = figure().axes
    assert (above.get_title(), below.get_title()) == ("above", "below")
    assert [line.get_label() for line in above.lines] == ["Train Loss"]
    assert [line.get_label().split(" 2")[0] for line in below.lines] == ["Valid Loss", "best epoch"]
    assert list(above.lines[0].get_ydata()) == [row["Train Loss"] for row in HISTORY]
    assert list(below.lines[0].get_ydata()) == [row["Valid Loss"] for row in HISTORY]
