"""Makes the weights of a run the package's default model `nano`, with a notice in their header.

    python scripts/bundle_weights.py runs/nano/model.safetensors

The notice goes with the weights: every output repeats it (`seedfold.checkpoint.CheckpointInfo`).
With ``--half`` the file is half as large; the program reads it in single precision.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import torch

from seedfold.checkpoint import load_checkpoint, save_checkpoint
from seedfold.models import BUNDLED, BUNDLED_FILE

NOTICE = (
    "demonstration weights; a small network, trained briefly on few structures, far from accurate: "
    "for accurate structures use published weights, e.g. --model protenix-v2 (docs/weights.md)"
)
MOST_BYTES = 30e6


def main() -> None:
    options = arguments().parse_args()
    network, info = load_checkpoint(options.weights)
    if not info.trained:
        raise ValueError(f"{options.weights}: says that it is untrained")
    tensors = network.state_dict()
    size = sum(t.numel() * (2 if options.half else t.element_size()) for t in tensors.values())
    if size > MOST_BYTES:
        raise ValueError(f"{options.weights}: {size / 1e6:.0f} MB; at most 30 MB; see --half")
    if options.half:
        tensors = {n: t.half() if t.dtype == torch.float32 else t for n, t in tensors.items()}
    info = replace(info, name=BUNDLED, notice=options.notice, licence=options.licence)
    save_checkpoint(options.output, tensors, info)
    print(f"{options.output}: {options.output.stat().st_size / 1e6:.1f} MB")


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("weights", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=BUNDLED_FILE)
    parser.add_argument("--notice", default=NOTICE, help="one line; its mark ends at a semicolon")
    parser.add_argument("--licence", default="Apache-2.0")
    parser.add_argument("--half", action="store_true", help="store in half precision")
    return parser


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
