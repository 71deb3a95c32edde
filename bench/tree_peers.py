"""Engines that run trees from LightGBM's text file, which lies beside the ONNX model.

The compiled ones load what `compile_trees.py` wrote.
"""

import ctypes
from collections.abc import Callable
from pathlib import Path

import numpy as np

# From LightGBM's c_api.h.
C_API_DTYPE_FLOAT32 = 0
C_API_PREDICT_NORMAL = 0


def lightgbm_runner(model: str, inputs: dict, threads: int, precision: str) -> Callable:
    """Returns a function that predicts with LightGBM's native library, by its C interface.

    For one row that is the call made for single rows, which prepares everything but the row
    beforehand: the Python class has no such thing, and takes longer to check its arguments.
    """
    import lightgbm
    from lightgbm.basic import _LIB, _safe_call

    require_f32(precision)
    booster = lightgbm.Booster(model_file=source(model))
    rows = np.ascontiguousarray(only(inputs), np.float32)
    out, written = np.empty(len(rows)), ctypes.c_int64()
    answers, counter = out.ctypes.data_as(ctypes.POINTER(ctypes.c_double)), ctypes.byref(written)
    data = rows.ctypes.data_as(ctypes.c_void_p)
    count, width = (ctypes.c_int32(extent) for extent in rows.shape)
    options = ctypes.c_char_p(f"num_threads={threads}".encode())
    kind, datatype = ctypes.c_int(C_API_PREDICT_NORMAL), ctypes.c_int(C_API_DTYPE_FLOAT32)
    zero, every, row_major = ctypes.c_int(0), ctypes.c_int(-1), ctypes.c_int(1)
    if len(rows) == 1:
        settings = ctypes.c_void_p()
        _safe_call(
            _LIB.LGBM_BoosterPredictForMatSingleRowFastInit(
                booster._handle, kind, zero, every, datatype, width, options, ctypes.byref(settings)
            )
        )
        predict = _LIB.LGBM_BoosterPredictForMatSingleRowFast
        arguments = (settings, data, counter, answers)
    else:
        predict = _LIB.LGBM_BoosterPredictForMat
        arguments = (booster._handle, data, datatype, count, width, row_major, kind, zero, every)
        arguments += (options, counter, answers)

    def run() -> list[np.ndarray]:
        _safe_call(predict(*arguments))
        return [out]

    run.keep = (booster, rows)
    return run


def lleaves_runner(model: str, inputs: dict, threads: int, precision: str) -> Callable:
    """Returns a function that predicts with lleaves, in f32 as the rows are."""
    import lleaves

    require_f32(precision)
    rows = np.ascontiguousarray(only(inputs), np.float32)
    compiled = lleaves.Model(model_file=source(model))
    compiled.compile(cache=existing(Path(model).with_suffix(".lleaves.o")), use_fp64=False)
    jobs = 1 if len(rows) == 1 else threads
    return lambda: [compiled.predict(rows, n_jobs=jobs)]


def tl2cgen_runner(model: str, inputs: dict, threads: int, precision: str) -> Callable:
    """Returns a function that predicts with TL2cgen; its matrix is made beforehand."""
    import tl2cgen

    require_f32(precision)
    library = existing(Path(model).with_suffix(".tl2cgen.so"))
    predictor = tl2cgen.Predictor(library, nthread=threads)
    rows = tl2cgen.DMatrix(only(inputs), dtype="float32")
    return lambda: [predictor.predict(rows)]


TREE_RUNNERS = {
    "lightgbm": lightgbm_runner,
    "lleaves": lleaves_runner,
    "tl2cgen": tl2cgen_runner,
}


def source(model: str) -> str:
    """Returns the text file that the ONNX model was converted from."""
    return str(existing(Path(model).with_suffix(".txt")))


def existing(path: Path) -> Path:
    """Returns the path; ends the process where there is no such file."""
    if not path.exists():
        raise SystemExit(f"{path.name} does not exist")
    return path


def only(inputs: dict) -> np.ndarray:
    """Returns the one array of features."""
    (rows,) = inputs.values()
    return rows


def require_f32(precision: str) -> None:
    """Ends the process unless f32 is asked for."""
    if precision != "f32":
        raise SystemExit(f"trees have no {precision}")
