"""Hand-ins that are right and written in other ways than ours: what stands in their files, and what makes their models.

Each is a dict of files, by name, and of code that is run in the folder to save its models.
"""

# Nodes in the terms of the course's framework: grad and cache, cal and backcal, a loss that is given its target.
COURSE = {
    "autograd/Nodes.py": """
import numpy as np
from .BaseNode import Node

class Linear(Node):
    def __init__(self, indim, outdim):
        weight = np.random.uniform(-1, 1, (indim, outdim)) * indim ** -0.5
        super().__init__("linear", weight, np.zeros((1, outdim)))

    def cal(self, X):
        self.cache.append(X)
        return X @ self.params[0] + self.params[1]

    def backcal(self, grad):
        self.grad.append(self.cache[-1].T @ grad)
        self.grad.append(grad.sum(axis=0))
        return grad @ self.params[0].T

class relu(Node):
    def cal(self, X):
        self.cache.append(X)
        return np.clip(X, 0, None)

    def backcal(self, grad):
        return grad * (self.cache[-1] > 0)

class sigmoid(Node):
    def cal(self, X):
        self.cache.append(1 / (1 + np.exp(-X)))
        return self.cache[-1]

    def backcal(self, grad):
        return grad * self.cache[-1] * (1 - self.cache[-1])

class MSE(Node):
    def __init__(self, target):
        super().__init__("mse")
        self.target = target

    def cal(self, X):
        self.cache.append(X - self.target)
        return np.mean(self.cache[-1] ** 2)

    def backcal(self, grad):
        return grad * 2 * self.cache[-1] / self.cache[-1].size
""",
    "autograd/BaseNode.py": """
class Node(object):
    def __init__(self, name="", *params):
        self.grad, self.cache, self.name, self.params = [], [], name, list(params)

    def flush(self):
        self.grad, self.cache = [], []

    def forward(self, X, debug=False):
        return self.cal(X)

    def backward(self, grad, debug=False):
        return self.backcal(grad)
""",
    "autograd/BaseGraph.py": """
class Graph(list):
    def forward(self, X):
        for node in self:
            X = node.forward(X)
        return X

    def backward(self, grad=1):
        for node in reversed(self):
            grad = node.backward(grad)
        return grad

    def optimstep(self, lr):
        for node in self:
            for param, grad in zip(node.params, node.grad):
                param -= lr * grad
""",
}

SIZES = "sizes = [1728, 256, 128, 64, 128, 256, 1728]\n"
NODES = f"""
import pickle
from autograd.Nodes import *
from autograd.BaseGraph import *
{SIZES}
nodes = [node for pair in zip(sizes, sizes[1:]) for node in (Linear(*pair), ReLU())][:-1] + [Sigmoid()]
"""

MLPS = {
    "a checkpoint in a dict": (
        {},
        f"{NODES}pickle.dump({{'epoch': 3, 'model': BaseGraph(nodes)}}, open('models/BestModel_MLPAE.pkl', 'wb'))",
    ),
    "the course's framework": (
        COURSE | {"autograd/__init__.py": ""},
        f"""
import pickle, os
from autograd.Nodes import *
from autograd.BaseGraph import *
{SIZES}
nodes = [node for pair in zip(sizes, sizes[1:]) for node in (Linear(*pair), relu())][:-1] + [sigmoid()]
os.mkdir("model")
pickle.dump(Graph(nodes), open("model/Best_MLPAE.pkl", "wb"))
""",
    ),
    "classes in the script, which trains when it is run": (
        {
            "MLPAE_train_script.py": f"""
import pickle
import nowhere
from autograd import BaseGraph, Linear, ReLU, Sigmoid
{SIZES}
class Autoencoder:
    def __init__(self):
        layers = [node for pair in zip(sizes, sizes[1:]) for node in (Linear(*pair), ReLU())]
        self.encoder, self.decoder, self.last = BaseGraph(layers[:6]), BaseGraph(layers[6:11]), Sigmoid()

    def forward(self, x):
        return self.last.forward(self.decoder.forward(self.encoder.forward(x)))

raise SystemExit("it would train here")
""".replace("import nowhere\n", "try:\n    import nowhere\nexcept ImportError:\n    pass\n")
        },
        """
code = open("MLPAE_train_script.py").read().partition("raise SystemExit")[0]
exec(code)
pickle.dump(Autoencoder(), open("models/BestModel_MLPAE.pkl", "wb"), protocol=0)
""",
    ),
    "a list of layers": ({}, f"{NODES}pickle.dump(nodes, open('models/BestModel_MLPAE.pkl', 'wb'))"),
}

FUNCTIONAL = """
import torch
from torch import nn
import torch.nn.functional as F

class {name}(nn.Module):
    def __init__(self, dim=64):
        super().__init__()
        self.c1, self.c2 = nn.Conv2d(3, 32, 5, padding=2), nn.Conv2d(32, 64, 3, padding=1)
        self.c3 = nn.Conv2d(64, 128, 3, padding=1)
        self.norm = nn.BatchNorm2d(128)
        self.fc, self.fc2, self.back = nn.Linear(4608, dim), nn.Linear(4608, dim), nn.Linear(dim, 4608)
        self.d1, self.d2 = nn.ConvTranspose2d(128, 64, 3, padding=1), nn.ConvTranspose2d(64, 32, 2, 2)
        self.d3 = nn.ConvTranspose2d(32, 3, 2, 2)

    def features(self, x):
        x = F.max_pool2d(F.relu(self.c1(x)), 2)
        x = F.max_pool2d(F.relu(self.c2(x)), 2)
        return F.relu(self.norm(self.c3(x))).reshape(len(x), -1)

    def decode(self, z):
        y = F.relu(self.back(z)).view(-1, 128, 6, 6)
        return torch.sigmoid(self.d3(F.relu(self.d2(F.relu(self.d1(y))))))

    def forward(self, x):
        {forward}
"""
AE = FUNCTIONAL.format(name="ConvAE", forward="return self.decode(self.fc(self.features(x)))")
VAE = FUNCTIONAL.format(
    name="MyVAE",
    forward="""h = self.features(x)
        mu, log_var = self.fc(h), self.fc2(h)
        z = mu + torch.exp(log_var / 2) * torch.randn_like(mu)
        return self.decode(z), mu, log_var""",
)
LOSS = """
def VAE_loss_function(outputs, images):
    x, mu, log_var = outputs
    return F.mse_loss(x, images, reduction="sum") - 0.5 * (1 + log_var - mu.pow(2) - log_var.exp()).sum()
"""
SAVE_AE = """
import torch
from Autoencoder import Autoencoder
model = Autoencoder(64)
torch.save(model.state_dict(), "models/BestModel_AE.pth")
"""
SAVE_VAE = SAVE_AE.replace("Autoencoder", "VarAutoencoder").replace("_AE", "_VAE")
SAVE_MYVAE = SAVE_VAE.replace("VarAutoencoder(64)", "MyVAE()").replace("import VarAutoencoder", "import MyVAE")

NETWORKS = {
    "functions, other names, and a batch norm": (
        {"Autoencoder.py": AE, "VarAutoencoder.py": VAE + LOSS},
        [
            SAVE_AE.replace("Autoencoder(64)", "ConvAE()").replace("import Autoencoder", "import ConvAE"),
            SAVE_MYVAE.replace("BestModel_VAE", "Best_vae"),
        ],
    ),
    "a Sigmoid in forward, and not in the decoder": (
        {
            "VarAutoencoder.py": VAE.replace("return torch.sigmoid(self.d3(", "return (self.d3(").replace(
                "return self.decode(z)", "return torch.sigmoid(self.decode(z))"
            )
            + LOSS
        },
        [
            SAVE_AE,
            SAVE_MYVAE,
        ],
    ),
    "whole models": ({}, [SAVE_AE.replace(".state_dict()", ""), SAVE_VAE.replace(".state_dict()", "")]),
    "with the optimizer in a dict, and a script of its own": (
        {"Autoencoder.py": AE},
        [
            """
import torch
from Autoencoder import ConvAE
model = ConvAE()
optimizer = torch.optim.Adam(model.parameters())
model.decode(model.fc(model.features(torch.rand(4, 3, 24, 24)))).sum().backward()
optimizer.step()
parts = {"optimizer": optimizer.state_dict(), "epoch": 3, "net": model.state_dict()}
torch.save(parts, "models/BestModel_AE.pth")
""",
        ],
    ),
}
