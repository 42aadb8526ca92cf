import itertools
import math

import numpy as np
import pytest
import torch
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

import lab.gaussian_mixture
from lab.gaussian_mixture import COMPONENTS, MOST_STEPS, RIDGE, TOLERANCE, GaussianMixture, first_responsibilities


def covariances_of(mixture):
    return mixture.factors @ mixture.factors.mT


def three_gaussians(number=20_000):
    """Vectors (number, 2) of three Gaussians far from each other, with the weights, means and covariances of each."""
    weights = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    means = torch.tensor([[-9, 0], [0, 9], [9, -9]], dtype=torch.float64)
    covariances = torch.tensor([[[1, 0.8], [0.8, 1]], [[2, 0], [0, 0.1]], [[0.5, -0.3], [-0.3, 1]]]).double()
    torch.manual_seed(0)
    vectors = MixtureSameFamily(Categorical(weights), MultivariateNormal(means, covariances)).sample((number,))
    return vectors, weights, means, covariances


def overlapping(number=60, size=3):
    torch.manual_seed(1)
    return torch.randn(number, size) * torch.tensor([1, 2, 0.5])[:size] + 3 * torch.rand(number, 1)


@pytest.fixture
def steps(monkeypatch):
    """All mixtures of a fit, each as (weights, means, covariances), in the list that is given."""
    seen = []
    maximize = GaussianMixture.maximize

    def record(self, *arguments):
        maximize(self, *arguments)
        seen.append((self.weights, self.means, covariances_of(self)))

    monkeypatch.setattr(GaussianMixture, "maximize", record)
    return seen


def density(x, mean, covariance):
    """N(x | mean, covariance) by its definition, with the inverse and the determinant (Bishop, equation 2.43)."""
    exponent = -0.5 * (x - mean) @ np.linalg.inv(covariance) @ (x - mean)
    return np.exp(exponent) / np.sqrt((2 * np.pi) ** len(x) * np.linalg.det(covariance))


def test_each_step_is_that_of_the_textbook(steps):
    vectors = overlapping()
    mixture = GaussianMixture(vectors, 3)
    x = vectors.double().numpy()
    ridge = RIDGE * np.var(x, axis=0).mean() * np.eye(3)
    assert len(steps) > 3
    for before, after in itertools.pairwise(steps):
        weights, means, covariances = (values.numpy() for values in before)
        joint = np.array([[weights[k] * density(row, means[k], covariances[k]) for k in range(3)] for row in x])
        responsibilities = joint / joint.sum(axis=1, keepdims=True)
        for k in range(3):
            count = responsibilities[:, k].sum()
            mean = sum(r * row for r, row in zip(responsibilities[:, k], x, strict=True)) / count
            outer = sum(r * np.outer(row - mean, row - mean) for r, row in zip(responsibilities[:, k], x, strict=True))
            expected = count / len(x), mean, outer / count + ridge
            for found, value in zip(after, expected, strict=True):
                np.testing.assert_allclose(found[k], value, rtol=1e-9, atol=1e-9)
    assert torch.equal(mixture.means, steps[-1][1])


def test_the_first_step_is_by_the_first_responsibilities(steps):
    vectors = overlapping().double()
    GaussianMixture(vectors, 4, seed=3)
    responsibilities = first_responsibilities(vectors, 4, seed=3)
    weights, means, _ = steps[0]
    torch.testing.assert_close(weights, responsibilities.mean(dim=0))
    for k in range(4):
        torch.testing.assert_close(means[k], vectors[responsibilities[:, k] == 1].mean(dim=0))


@pytest.mark.parametrize("seed", range(4))
def test_the_log_likelihood_rises_until_it_hardly_does(steps, seed):
    vectors = overlapping(300)
    GaussianMixture(vectors, 4, seed)
    rises = np.diff([reference(*step).log_prob(vectors.double()).mean() for step in steps])
    assert len(rises) < MOST_STEPS - 1 and (rises[:-1] >= TOLERANCE).all() and -1e-9 < rises[-1] < TOLERANCE


def test_it_stops_after_so_many_steps(steps, monkeypatch):
    monkeypatch.setattr(lab.gaussian_mixture, "MOST_STEPS", 3)
    GaussianMixture(overlapping(), 4)
    assert len(steps) == 1 + 3  # the first is of the first means


def reference(weights, means, covariances):
    """The same mixture by torch.distributions."""
    return MixtureSameFamily(Categorical(weights), MultivariateNormal(means, covariances))


def test_log_likelihood_and_responsibilities_are_those_of_torch_distributions():
    mixture = GaussianMixture(overlapping(), 4)
    vectors = 2 * overlapping() - 1
    expected = reference(mixture.weights, mixture.means, covariances_of(mixture))
    log_likelihood = mixture.log_likelihood(vectors)
    assert log_likelihood.shape == (60,) and log_likelihood.dtype == torch.float64
    torch.testing.assert_close(log_likelihood, expected.log_prob(vectors.double()))
    normals = expected.component_distribution.log_prob(vectors.double()[:, None])
    torch.testing.assert_close(mixture.log_joint(vectors), mixture.weights.log() + normals)


def test_far_away_the_log_likelihood_is_still_finite():
    assert torch.isfinite(GaussianMixture(overlapping(), 3).log_likelihood(torch.full((1, 3), 1e6))).all()


@pytest.mark.parametrize("seed", range(3))
def test_a_known_mixture_is_recovered(seed):
    vectors, weights, means, covariances = three_gaussians()
    mixture = GaussianMixture(vectors, 3, seed)
    order = mixture.means[:, 0].argsort()  # as in the known one
    torch.testing.assert_close(mixture.weights[order], weights, atol=0.03, rtol=0)
    torch.testing.assert_close(mixture.means[order], means, atol=0.1, rtol=0)
    torch.testing.assert_close(covariances_of(mixture)[order], covariances, atol=0.1, rtol=0)


def test_one_component_has_the_mean_and_the_covariance_of_the_vectors():
    vectors = overlapping().double()
    mixture = GaussianMixture(vectors, 1)
    covariance = torch.cov(vectors.T, correction=0)
    torch.testing.assert_close(mixture.weights, torch.ones(1).double())
    torch.testing.assert_close(mixture.means, vectors.mean(dim=0)[None])
    ridge = RIDGE * covariance.trace() / 3 * torch.eye(3).double()
    torch.testing.assert_close(covariances_of(mixture)[0] - covariance, ridge, rtol=1e-4, atol=1e-10)


def test_samples_are_of_the_mixture():
    """Each component has its share of them, with its mean and covariance, within five standard errors."""
    vectors, *_ = three_gaussians()
    mixture = GaussianMixture(vectors, 3)
    torch.manual_seed(0)
    samples = mixture.sample(20_000)
    assert samples.shape == (20_000, 2) and samples.dtype == torch.float32
    components = mixture.log_joint(samples).argmax(dim=1)
    for k in range(3):
        own = samples[components == k].double()
        variances = covariances_of(mixture)[k].diagonal()
        error = 5 / len(own) ** 0.5
        assert len(own) / 20_000 == pytest.approx(mixture.weights[k].item(), abs=5 * 0.5 / 20_000**0.5)
        assert ((own.mean(dim=0) - mixture.means[k]).abs() < error * variances.sqrt()).all()
        difference = torch.cov(own.T) - covariances_of(mixture)[k]
        assert (difference.abs() < error * 2**0.5 * torch.outer(variances, variances).sqrt()).all()


def test_samples_are_by_the_global_random_generator():
    mixture = GaussianMixture(overlapping(), 3)
    torch.manual_seed(0)
    first, second = mixture.sample(5), mixture.sample(5)
    torch.manual_seed(0)
    assert torch.equal(mixture.sample(5), first) and not torch.equal(first, second)


def test_a_fit_depends_on_its_seed_alone():
    def means(seed):
        return GaussianMixture(overlapping(), 4, seed).means

    torch.manual_seed(5)
    expected = torch.rand(3)
    vectors = overlapping()
    torch.manual_seed(5)
    mixture = GaussianMixture(vectors, 4)
    assert torch.equal(torch.rand(3), expected)  # no random number of anybody else's was taken
    assert torch.equal(mixture.means, means(0)) and not torch.equal(mixture.means, means(1))
    assert len(GaussianMixture(vectors).means) == COMPONENTS
    assert torch.equal(GaussianMixture(vectors).means, GaussianMixture(vectors, COMPONENTS, 0).means)


def test_first_means_are_chosen_by_their_squared_distance():
    """Of three points, the first by chance, and the second in proportion to its squared distance to the first."""
    points = torch.tensor([[0.0], [1.0], [3.0]]).double()
    found = [tuple(first_responsibilities(points, 2, seed)[:, 1].tolist()) for seed in range(2000)]
    # Which points are nearer to the second one, and how probable that is, times three. 3 is chosen after 0, or after 1.
    expected = {(0, 1, 1): 1 / 10, (1, 0, 0): 1 / 5, (0, 0, 1): 9 / 10 + 4 / 5, (1, 1, 0): 1}
    assert set(found) == set(expected)
    for groups, share in expected.items():
        error = (share / 3 * (1 - share / 3) / 2000) ** 0.5
        assert found.count(groups) / 2000 == pytest.approx(share / 3, abs=4 * error)
    for seed in range(20):
        assert first_responsibilities(points, 3, seed).argmax(dim=1).unique().tolist() == [0, 1, 2]


@pytest.mark.parametrize(("number", "repeats", "components"), [(3, 1, 3), (1, 1, 1), (1, 40, 1), (2, 40, 2)])
def test_as_many_components_as_different_vectors_at_most(number, repeats, components):
    vectors = overlapping(number).repeat(repeats, 1)
    mixture = GaussianMixture(vectors)
    assert len(mixture.weights) == components
    torch.testing.assert_close(mixture.means.unique(dim=0), vectors.double().unique(dim=0))
    torch.manual_seed(0)
    for sample in mixture.sample(20):
        assert (sample - vectors).norm(dim=1).min() < 0.02  # the ridge is a millionth of the variance
    assert torch.isfinite(mixture.log_likelihood(vectors)).all()


@pytest.mark.parametrize("value", [0.0, 1e-30, 0.1, 1e30])
def test_identical_vectors_are_sampled_again(value):
    vectors = torch.full((50, 3), value)
    torch.testing.assert_close(GaussianMixture(vectors).sample(9), vectors[:9], rtol=1e-5, atol=1e-18)


def test_vectors_of_one_number():
    vectors = torch.cat([torch.randn(300, 1) - 8, 2 * torch.randn(100, 1) + 8])
    mixture = GaussianMixture(vectors, 2)
    order = mixture.means[:, 0].argsort()
    torch.testing.assert_close(mixture.weights[order], torch.tensor([0.75, 0.25]).double(), atol=0.01, rtol=0)
    torch.testing.assert_close(mixture.factors[order].flatten(), torch.tensor([1, 2.0]).double(), atol=0.4, rtol=0)
    assert mixture.sample(7).shape == (7, 1)


def test_more_numbers_than_vectors():
    torch.manual_seed(0)
    vectors = torch.randn(20, 64)
    mixture = GaussianMixture(vectors, 3)
    assert torch.isfinite(mixture.log_likelihood(vectors)).all() and torch.isfinite(mixture.sample(9)).all()


@pytest.mark.parametrize("scale", [2.0**-60, 2.0**-10, 2.0**10, 2.0**60])
def test_the_scale_of_the_vectors_changes_nothing_else(scale):
    vectors = overlapping()
    one, other = GaussianMixture(vectors, 3), GaussianMixture(scale * vectors, 3)
    torch.testing.assert_close(other.means / scale, one.means)
    torch.testing.assert_close(other.factors / scale, one.factors)
    expected = one.log_likelihood(vectors) - 3 * math.log(scale)
    torch.testing.assert_close(other.log_likelihood(scale * vectors), expected)


def test_vectors_far_from_0():
    vectors = overlapping().double()
    torch.testing.assert_close(
        GaussianMixture(vectors + 1e6, 1).factors, GaussianMixture(vectors, 1).factors, rtol=0.1, atol=0.1
    )


def test_a_component_that_loses_its_vectors_is_left_out():
    vectors = overlapping().double()
    mixture = GaussianMixture(vectors, 3)
    log_joint = mixture.log_joint(vectors)
    log_joint[:, 1] = -1e3  # no vector is of this one any more
    responsibilities = log_joint.softmax(dim=1)
    mixture.maximize(vectors, responsibilities)
    assert mixture.weights.sum().item() == pytest.approx(1)
    expected = [(responsibilities[:, k : k + 1] * vectors).sum(dim=0) / responsibilities[:, k].sum() for k in (0, 2)]
    torch.testing.assert_close(mixture.means, torch.stack(expected))
    assert mixture.sample(5).isfinite().all() and mixture.log_likelihood(vectors).isfinite().all()


def test_vectors_in_use_elsewhere_are_left_as_they_are():
    vectors = overlapping().requires_grad_()
    before = vectors.detach().clone()
    mixture = GaussianMixture(vectors, 3)
    assert torch.equal(vectors, before) and not mixture.factors.requires_grad
    assert not mixture.sample(2).requires_grad


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf, 1e39])
def test_numbers_that_are_not_finite_are_refused(wrong):
    vectors = overlapping().double()
    vectors[7, 1] = wrong
    with pytest.raises(ValueError, match=r"found vectors of shape \(60, 3\), expected \(N, D\), all finite"):
        GaussianMixture(vectors)


@pytest.mark.parametrize("shape", [(0, 3), (5, 0), (5,), (5, 3, 1)])
def test_vectors_of_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match="found vectors of shape"):
        GaussianMixture(torch.zeros(shape))
