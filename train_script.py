"""Parts 3 and 4: trains the convolutional autoencoder (AE) or the variational one (VAE) on photos of flowers.

    python train_script.py --model AE --optimizer SGD > log/train_AE_SGD.txt
    python train_script.py --model AE > log/train_AE.txt
    python train_script.py --model VAE > log/train_VAE.txt

The log goes to stdout, one line an epoch; the best model goes to models/BestModel_AE.pth or models/BestModel_VAE.pth. A
training that was cut off goes on with --resume, and its log with >> in place of >. One epoch is in tasks.py, the loop
over all of them in training.py.
"""

import argparse

from command_line import Parser, image_size, one_line_errors, positive_float, positive_int, seed


def parse_arguments(argv):
    parser = Parser("Trains the convolutional autoencoder of Part 3 or the variational one of Part 4.")
    parser.add_argument("--model", choices=["AE", "VAE"], required=True, default=argparse.SUPPRESS, help="which one")
    parser.add_argument("--data-root", default="./flowers", help="the photos: a folder of class folders")
    parser.add_argument("--drawn-root", default="./drawn_flowers", help="the set drawn where there are no photos")
    parser.add_argument("--model-dir", default="./models", help="where the best model goes")
    parser.add_argument("--log-dir", default="./log", help="where the history of the losses goes")
    parser.add_argument("--image-size", type=image_size, default="24", help="in pixels: 24, or as in 32x24")
    parser.add_argument("--batch-size", type=positive_int, default=16, help="images in a batch")
    parser.add_argument("--optimizer", choices=["AdamW", "SGD"], default="AdamW", help="SGD: plain, without momentum")
    parser.add_argument(
        "--epochs", type=positive_int, default=argparse.SUPPRESS, help="(default: 15 for AE, 20 for VAE, 60 with SGD)"
    )
    parser.add_argument(
        "--lr",
        type=positive_float,
        default=argparse.SUPPRESS,
        help="highest learning rate (default: 0.003; with SGD 5 for AE, 0.0001 for VAE)",
    )
    parser.add_argument("--patience", type=positive_int, default=15, help="epochs to wait for a better model")
    parser.add_argument("--seed", type=seed, default=0, help="of the first weights and the order of the photos")
    parser.add_argument("--split-seed", type=seed, default=0, help="of the split into training and validation photos")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="auto: a GPU if there is one")
    parser.add_argument("--strict", action="store_true", help="make an error of a photo that cannot be read")
    parser.add_argument("--resume", action="store_true", help="go on with a training that was cut off")
    args = parser.parse_args(argv)
    if any(side % 4 for side in args.image_size):
        parser.error("argument --image-size: found {} x {}, expected multiples of 4".format(*args.image_size))
    return args


@one_line_errors
def main(argv=None):
    args = parse_arguments(argv)

    # Only now, past the arguments, so that --help need not wait for PyTorch.
    import torch

    from tasks import TASKS, make_optimizer, train_one_epoch, validate
    from training import prepare, train

    if args.device == "cuda" and not torch.cuda.is_available():
        raise OSError("--device: found no GPU that PyTorch can use, expected one for cuda; take --device cpu")
    if args.device == "auto":
        args.device = "cuda" if torch.cuda.is_available() else "cpu"
    task = TASKS[args.model]
    epochs, lr, asked = task.optimizers[args.optimizer]
    args.epochs, args.lr = getattr(args, "epochs", epochs), getattr(args, "lr", lr)
    training, validation, data = prepare(args, args.device)
    torch.manual_seed(args.seed)
    model = task.model(task.encoding_dim, args.image_size).to(args.device, memory_format=torch.channels_last)
    optimizer, schedule = make_optimizer(args.optimizer, model, args.lr, args.epochs * len(training))
    train(
        args,
        {
            "name": args.model,
            "model": model,
            "encoding_dim": task.encoding_dim,
            "image_size": list(args.image_size),
            "data": data,
        },
        training,
        train_one_epoch=lambda epoch: train_one_epoch(model, training, task, optimizer, schedule),
        validate=lambda: validate(model, validation, task),
        optimizers=[optimizer, schedule],
        digits=task.digits,
        asked=asked,
    )


if __name__ == "__main__":
    main()
