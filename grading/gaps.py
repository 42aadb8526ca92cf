"""The version to hand out, for ``make_handout.py``: the files in it, and the parts of them that a student is to write.

A part is named by where it is: a function or method, as ``Linear.forward``; a loop in a function by its variable, as
``main.epoch``; an assignment in a function by its target, as ``Autoencoder.__init__.encoder``.
"""

FILES = [
    *("autograd/*.py", "lab/*.py", "MLPAE_train_script.py", "Autoencoder.py", "VarAutoencoder.py", "GAN.py"),
    *("Diffusion.py", "train_script.py", "data_processor.py", "visualization.py", "random_generation.py"),
    *("sample_quality.py", "check_gradients.py", "requirements.txt", "LICENSE", ".gitignore"),
]
PAGES = {"docs/tasks.md": "README.md", "docs/tasks.zh-CN.md": "README.zh-CN.md"}
FOLDERS = ["models", "vis", "log"]  # which the commands of the handout write to

# By step of the handout and by file.
GAPS = {
    "Part 1, step 1": {"autograd/BaseGraph.py": ["BaseGraph.backward", "BaseGraph.optimstep"]},
    "Part 1, step 2": {
        "autograd/Nodes.py": [
            *("Linear.forward", "Linear.backward", "ReLU.forward", "ReLU.backward"),
            *("Sigmoid.forward", "Sigmoid.backward", "MSE.forward", "MSE.backward"),
        ],
    },
    "Part 2, step 1": {"MLPAE_train_script.py": ["build_autoencoder"]},
    "Part 2, step 2": {"MLPAE_train_script.py": ["train_one_epoch", "validate", "main.epoch"]},
    "Part 3, step 1": {
        "Autoencoder.py": ["Autoencoder.__init__.encoder", "Autoencoder.__init__.decoder", "Autoencoder.forward"],
        "train_script.py": ["main.epoch"],
    },
    "Part 3, step 2": {"train_script.py": ["main.optimizer"]},
    "Part 3, step 3": {
        "Autoencoder.py": ["Autoencoder.sample"],
        "lab/mlp_autoencoder.py": ["MLPAutoencoder.sample"],
    },
    "Part 4, step 1": {
        "VarAutoencoder.py": ["VarAutoencoder.encode", "VarAutoencoder.reparameterize", "VarAutoencoder.forward"],
    },
    "Part 4, step 2": {"VarAutoencoder.py": ["VAE_loss_terms", "VAE_loss_function"]},
    "Part 4, step 4": {
        "VarAutoencoder.py": ["calibrated_VAE_loss_function"],
        "GAN.py": [
            *("GAN.__init__.generator", "GAN.__init__.discriminator", "GAN.forward", "GAN.random_inputs"),
            *("GAN.generate", "augment", "GAN_loss_terms", "GAN_loss_function"),
        ],
        "Diffusion.py": [
            *("Diffusion.keep_early", "Diffusion.forward", "Diffusion.denoise", "Diffusion.sample"),
            *("UNet.__init__", "UNet.forward", "stratified_times", "schedule", "ddim", "sampling_times"),
            *("time_features", "ResidualBlock.__init__", "ResidualBlock.forward", "Attention.__init__"),
            *("Attention.forward", "DDPM_loss_function"),
        ],
    },
}
