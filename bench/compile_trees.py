"""Compiles the trees of the suite with lleaves and TL2cgen, beside the models.

Writes NAME.lleaves.o, NAME.tl2cgen.so and NAME.compiled.json, the seconds that each took. `peer.py`
loads them, so that compiling is not part of a load. Needs requirements-trees.txt, gcc.
"""

import argparse
import json
import time
from pathlib import Path

import lleaves
import tl2cgen
import treelite

NAMES = ["gbdt"]
C_FILES = 32


def compile_lleaves(text: Path) -> None:
    """Compiles with LLVM, in f32."""
    cache = text.with_suffix(".lleaves.o")
    cache.unlink(missing_ok=True)
    lleaves.Model(model_file=text).compile(cache=cache, use_fp64=False)


def compile_tl2cgen(text: Path) -> None:
    """Compiles with the system's C compiler, thresholds quantised as its documentation advises."""
    model = treelite.frontend.load_lightgbm_model(text)
    parameters = {"parallel_comp": C_FILES, "quantize": 1}
    library = text.with_suffix(".tl2cgen.so")
    tl2cgen.export_lib(model, toolchain="gcc", libpath=library, params=parameters)


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", type=Path, help="the folder that build_models.py wrote")
    arguments = parser.parse_args()
    for name in NAMES:
        text = arguments.models / f"{name}.txt"
        seconds = {}
        for engine, compiler in (("tl2cgen", compile_tl2cgen), ("lleaves", compile_lleaves)):
            start = time.perf_counter()
            compiler(text)
            seconds[engine] = round(time.perf_counter() - start, 1)
            print(f"{name}: {engine} {seconds[engine]} s", flush=True)
            text.with_suffix(".compiled.json").write_text(json.dumps(seconds) + "\n")


if __name__ == "__main__":
    main()
