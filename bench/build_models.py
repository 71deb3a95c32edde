"""Builds the models of the benchmark suite and inputs for them into a folder.

Writes NAME.onnx, NAME.LABEL.npz (arrays named as the model's inputs; the label gives batch and
sequence length, as in b8_s128) and suite.json, which lists them. All models together take about
1.1 GB, half of it VGG-19.
"""

import argparse
import importlib
from pathlib import Path

from suite.entry import write, write_index

FAMILIES = ["trees", "recurrent", "mobilenet", "examples", "light", "quantized"]


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="folder to write into")
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=FAMILIES)
    parser.add_argument("--skip", nargs="+", default=[], help="models to leave out, as in vgg19")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for family in arguments.families:
        for entry in importlib.import_module(f"suite.{family}").entries():
            if entry.name in arguments.skip:
                continue
            write_index(write(entry, arguments.out), arguments.out)
            size = (arguments.out / f"{entry.name}.onnx").stat().st_size
            print(f"{entry.name}: {size / 1e6:.1f} MB, {', '.join(entry.inputs)}", flush=True)


if __name__ == "__main__":
    main()
