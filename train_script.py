"""Parts 3 and 4: trains the convolutional autoencoder, the VAE, and the models of step 4, in PyTorch.

    python train_script.py --model AE --optimizer SGD > log/train_AE_SGD.txt
    python train_script.py --model AE > log/train_AE.txt
    python train_script.py --model VAE > log/train_VAE.txt
    python train_script.py --model VAE_calibrated|GAN|DDPM
    torchrun --nproc-per-node 2 train_script.py --model AE|VAE|VAE_calibrated|DDPM

The log goes to stdout, one line per epoch, and the best model to models/BestModel_AE.pth etc. An interrupted training
is resumed with --resume, and its log with >> instead of >.
"""

import argparse
from typing import Any

from lab.command_line import Parser, add_training_flags, fill_defaults
from lab.defaults import DEFAULTS, MODELS
from lab.errors import UserError, one_line_errors
from lab.files import prepare_folder


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser("Trains a model of Parts 3 and 4 on photos of flowers.")
    models = [name for name in MODELS if name != "MLPAE"]
    parser.add_model(models)
    parser.add_argument("--optimizer", choices=["AdamW", "SGD"], default="AdamW", help="plain SGD: for AE and VAE")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="auto: a GPU if there is one")
    add_training_flags(parser, models)
    args = parser.parse_args(argv)
    if any(side % 4 for side in args.image_size):
        parser.error("argument --image-size: found {} x {}, expected multiples of 4".format(*args.image_size))
    if args.model == "DDPM" and "encoding_dim" in args:
        parser.error("argument --encoding-dim: DDPM has no latent vector; leave it out")
    if (args.model, args.optimizer) not in DEFAULTS:
        parser.error(f"argument --optimizer: found SGD, expected AdamW for {args.model}")
    fill_defaults(args, DEFAULTS[args.model, args.optimizer])
    return args


def train_one_epoch(model: Any, loader: Any, criterion: Any, optimizer: Any, scheduler: Any) -> float:
    """Trains on each batch of the loader once; returns the mean loss over the images, measured during training."""
    from data_processor import random_horizontal_flip
    from lab.processes import mean_over_processes

    model.train()
    total: Any = 0
    for images, kinds in loader:
        images = random_horizontal_flip(images)
        outputs = criterion.outputs(model, images, kinds)
        loss = criterion.loss_function(outputs, images)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        total += criterion.weight(len(images)) * loss.detach()  # without .item(), which would wait for a GPU
    return mean_over_processes(total.item() / len(loader.sampler))


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    args = parse_arguments(argv)

    # Imported after the arguments are parsed, so that --help does not wait for PyTorch.
    import torch
    from torch.nn.parallel import DistributedDataParallel

    from lab.checkpoint import new_model
    from lab.memory import expect_memory_for_training
    from lab.photos import hold_out, load_photos, number_by_kind
    from lab.picture_quality import validate_pictures
    from lab.processes import distribute, join_processes, process_count, rank
    from lab.pytorch_training import CRITERIA, moving_average, validate
    from lab.training_run import TrainingRun

    if args.device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device: found no GPU that PyTorch can use, expected one for cuda; take --device cpu")
    if args.device == "auto":
        args.device = "cuda" if torch.cuda.is_available() else "cpu"
    device = join_processes(args.device)
    settings, criterion = DEFAULTS[args.model, args.optimizer], CRITERIA[args.model]

    # In memory there are weights, gradients, the two moments of AdamW, and the moving average.
    copies = (2 if args.optimizer == "SGD" else 4) + settings.averaged
    expect_memory_for_training(args, criterion, copies)
    prepare_folder(args.model_dir)
    prepare_folder(args.log_dir)
    training, validation = load_photos(args, device)
    training = distribute(training, args.seed)
    if args.model == "GAN":
        training, held_out = hold_out(training)
    kinds = number_by_kind(training.dataset)
    torch.manual_seed(args.seed)
    model = new_model(args.model, args.encoding_dim, args.image_size, len(kinds))
    model = model.to(device, memory_format=torch.channels_last)
    args.encoding_dim = model.encoding_dim

    optimizer: torch.optim.Optimizer = torch.optim.SGD(model.parameters(), args.lr, fused=True)
    if args.optimizer == "AdamW":
        optimizer = torch.optim.AdamW(
            model.parameters(), args.lr, betas=settings.betas, weight_decay=settings.weight_decay, fused=True
        )
    steps = args.epochs * len(training)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, args.lr, steps, cycle_momentum=False)
    best, parts = model, [model, optimizer, scheduler]
    if settings.averaged:
        averaged = moving_average(model, optimizer)
        best, parts = averaged.module, [*parts, averaged]
    network = model
    if process_count() > 1:
        # The GAN's batch norms need whole batches; SGD would need the sum of the gradients, and not their average.
        if args.model == "GAN" or (criterion.summed and args.optimizer == "SGD"):
            found = f"found {process_count()} processes, expected one for {args.model} with {args.optimizer}"
            raise UserError(f"{found}; leave torchrun out")
        network = DistributedDataParallel(model)
        torch.manual_seed(args.seed + rank())  # other random numbers in each process

    with TrainingRun(args, args.model, training, validation, parts, digits=2 if criterion.summed else 4) as run:
        for epoch in run.epochs():
            train_loss = train_one_epoch(network, training, criterion, optimizer, scheduler)
            if args.model == "DDPM" and epoch <= args.epochs // 8:
                for each in model, best:
                    each.keep_early(best.network)
            if args.model == "GAN":
                valid_loss, terms = validate_pictures(best, *held_out)
            else:
                valid_loss, terms = validate(best, validation, criterion)
            run.log(epoch, train_loss, valid_loss, terms)
            run.show_samples(best, epoch)

            if valid_loss < run.best_loss:
                run.save_best(best, epoch, train_loss, valid_loss)
            elif epoch - run.best_epoch >= args.patience:
                break  # early stopping


if __name__ == "__main__":
    main()
