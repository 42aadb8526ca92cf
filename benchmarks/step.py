"""One training step of the MLP of Part 2, batch 16, 24 x 24 pixels, float32: forward, backward, update."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import nn

from autograd import MSE, BaseGraph, Linear, ReLU, Sigmoid
from benchmarks.measure import peak_flops, show, time_in_turn

SIZES = [1728, 256, 128, 64, 128, 256, 1728]
BATCH = 16
LR = 0.1
ROUNDS = 30


def autograd_model() -> BaseGraph:
    """The model of MLPAE_train_script.py."""
    rng = np.random.default_rng(0)
    linear = [Linear(rows, columns, rng) for rows, columns in pairwise(SIZES)]
    linear[0].input_grad = False
    a, b, c, d, e, f = linear
    return BaseGraph([a, ReLU(), b, ReLU(), c, d, ReLU(), e, ReLU(), f, Sigmoid()])


def autograd_step(x: np.ndarray) -> Callable[[], None]:
    model, mse = autograd_model(), MSE()

    def step() -> None:
        mse.forward(model.forward(x), x)
        model.backward(mse.backward())
        model.optimstep(LR)

    return step


def pytorch_step(x: Any, threads: int) -> Callable[[], None]:
    layers = []
    for i, (rows, columns) in enumerate(pairwise(SIZES)):
        layers += [nn.Linear(rows, columns), nn.Sigmoid() if i == 5 else nn.Identity() if i == 2 else nn.ReLU()]
    model = nn.Sequential(*layers)
    optimizer = torch.optim.SGD(model.parameters(), LR)
    x = torch.from_numpy(x)

    def step() -> None:
        torch.set_num_threads(threads)
        loss = nn.functional.mse_loss(model(x), x)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def jax_step(x: Any) -> Callable[[], None]:
    import jax
    import jax.numpy as jnp

    def loss(params: Any, x: Any) -> Any:
        h = x
        for i, (weight, bias) in enumerate(params):
            h = h @ weight + bias
            h = jax.nn.sigmoid(h) if i == 5 else h if i == 2 else jax.nn.relu(h)
        return jnp.mean((h - x) ** 2)

    @jax.jit
    def update(params: Any, x: Any) -> Any:
        return jax.tree.map(lambda param, grad: param - LR * grad, params, jax.grad(loss)(params, x))

    state = [tuple(map(jnp.array, node.params)) for node in autograd_model() if node.params]
    x = jnp.array(x)

    def step() -> None:
        nonlocal state
        state = jax.block_until_ready(update(state, x))

    return step


def products(rng: np.random.Generator) -> Callable[[], None]:
    """The matrix products of a step as they are usually written, the first layer's dL/dx among them, and no more."""
    weights = [rng.standard_normal(shape, np.float32) for shape in pairwise(SIZES)]
    values = [rng.standard_normal((BATCH, size), np.float32) for size in SIZES]

    def step() -> None:
        for x, weight in zip(values, weights, strict=False):
            x @ weight
        for x, weight, grad in zip(values, weights, values[1:], strict=False):
            x.T @ grad
            grad @ weight.T

    return step


def updates() -> dict[str, Callable[[], None]]:
    """The update alone: param <- param - lr * grad, in pieces and in one."""
    model = autograd_model()
    for node in model:
        node.grads = [np.full_like(param, 1e-6) for param in node.params]

    def in_one_piece() -> None:
        for node in model:
            for param, grad in zip(node.params, node.grads, strict=True):
                param -= LR * grad

    pytorch = [torch.from_numpy(param.copy()).requires_grad_() for node in model for param in node.params]
    for param in pytorch:
        param.grad = torch.full_like(param, 1e-6)
    return {
        "optimstep": lambda: model.optimstep(LR),
        "param -= lr * grad": in_one_piece,
        "PyTorch's SGD": torch.optim.SGD(pytorch, LR).step,
    }


def run(data_root: str) -> None:
    rng = np.random.default_rng(0)
    x = rng.random((BATCH, SIZES[0]), np.float32)
    threads = torch.get_num_threads()
    contenders = {
        "autograd": autograd_step(x),
        "autograd again (control)": autograd_step(x),
        "its matrix products alone": products(rng),
        "PyTorch eager, one thread": pytorch_step(x, 1),
        "PyTorch eager": pytorch_step(x, threads),
    }
    try:
        contenders["JAX jit"] = jax_step(x)
    except ImportError:
        print("\n(No row for JAX: it is not installed.)")
    times = time_in_turn(contenders, rounds=ROUNDS, calls=40, warm_up=20)
    # Two operations for each weight and image in forward, in dL/dW and in dL/dx; the first layer's dL/dx is not needed.
    weights = [rows * columns for rows, columns in pairwise(SIZES)]
    operations = 2 * BATCH * (3 * sum(weights) - weights[0])
    peak = peak_flops(*rng.standard_normal((2, 1024, 1024), np.float32))
    times["arithmetic limit"] = [operations / peak] * ROUNDS
    show(__doc__, times, "ms", against=["PyTorch eager", "PyTorch eager, one thread", "arithmetic limit"])
    print(
        f"\nThe limit: {operations / 1e6:.0f} million operations at the measured peak of {peak / 1e9:.0f} a nanosecond."
    )
    times = time_in_turn(updates(), rounds=ROUNDS, calls=40, warm_up=20)
    show("Its update alone", times, "ms", against=["param -= lr * grad"])
