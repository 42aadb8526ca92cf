"""Parts 3 and 4: trains the convolutional autoencoder, the variational one, or what comes after them.

    python train_script.py --model AE --optimizer SGD > log/train_AE_SGD.txt
    python train_script.py --model AE > log/train_AE.txt
    python train_script.py --model VAE > log/train_VAE.txt
    python train_script.py --model VAE_calibrated|GAN|DDPM
    torchrun --nproc-per-node 2 train_script.py --model AE|VAE|DDPM

The log goes to stdout, one line an epoch; the best model goes to models/BestModel_AE.pth, and so on. A training that
was cut off goes on with --resume, and its log with >> in place of >. One epoch is in tasks.py, the loop over all of
them in training.py.
"""

import argparse

from command_line import MODELS, Parser, add_training_flags, one_line_errors


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser("Trains a model of Parts 3 and 4 on photos of flowers.")
    models = [name for name in MODELS if name != "MLPAE"]
    parser.add_argument("--model", choices=models, required=True, default=argparse.SUPPRESS, help="which one")
    parser.add_argument(
        "--optimizer", choices=["AdamW", "SGD"], default="AdamW", help="SGD: plain, without momentum, for AE and VAE"
    )
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="auto: a GPU if there is one")
    add_training_flags(
        parser,
        encoding_dim="64; DDPM has no latent vector",
        epochs="15 for AE, 20 for VAE, 60 for both with SGD, 40 for VAE_calibrated, 200 for GAN, 90 for DDPM",
        lr="0.003 for AE and VAE, with SGD 5 and 0.0001; 0.001 for GAN, 0.002 for VAE_calibrated and DDPM",
        patience="15; all epochs for GAN and DDPM",
    )
    args = parser.parse_args(argv)
    if any(side % 4 for side in args.image_size):
        parser.error("argument --image-size: found {} x {}, expected multiples of 4".format(*args.image_size))
    if args.model == "DDPM" and "encoding_dim" in args:
        parser.error("argument --encoding-dim: DDPM has no latent vector; leave it out")
    if args.optimizer == "SGD" and args.model not in ("AE", "VAE"):
        parser.error(f"argument --optimizer: found SGD, expected AdamW for {args.model}")
    return args


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    args = parse_arguments(argv)

    # Only now, past the arguments, so that --help need not wait for PyTorch.
    import torch

    import parallel
    from tasks import TASKS, average_of, make_optimizer, train_one_epoch
    from training import prepare, train

    if args.device == "cuda" and not torch.cuda.is_available():
        raise OSError("--device: found no GPU that PyTorch can use, expected one for cuda; take --device cpu")
    if args.device == "auto":
        args.device = "cuda" if torch.cuda.is_available() else "cpu"
    task = TASKS[args.model]
    recipe = task.recipes[args.optimizer]
    args.epochs = getattr(args, "epochs", recipe.epochs)
    args.lr = getattr(args, "lr", recipe.lr)
    args.patience = getattr(args, "patience", recipe.patience or args.epochs)

    device = parallel.join(args.device)
    if task.whole_batches and parallel.count() > 1:
        raise OSError(f"--model: found {parallel.count()} processes, expected one for {args.model}; leave torchrun out")

    torch.manual_seed(args.seed)
    size = {"encoding_dim": args.encoding_dim} if "encoding_dim" in args else {}
    model = task.model(image_size=args.image_size, **size).to(device, memory_format=torch.channels_last)
    args.encoding_dim = model.encoding_dim
    training, validation, data = prepare(args, device)
    optimizer, schedule = make_optimizer(args.optimizer, model, recipe, args.lr, args.epochs * len(training))
    best, parts = model, [optimizer, schedule]
    if task.averaged:
        averaged = average_of(model, optimizer)
        best, parts = averaged.module, [*parts, averaged, model]
    network = parallel.spread(model)
    train(
        args,
        {
            "name": args.model,
            "model": best,
            "encoding_dim": args.encoding_dim,
            "image_size": list(args.image_size),
            "data": data,
        },
        training,
        train_one_epoch=lambda epoch: train_one_epoch(model, training, task, optimizer, schedule, network),
        validate=lambda: task.validate(best, validation, task),
        parts=parts,
        digits=task.digits,
    )


if __name__ == "__main__":
    main()
