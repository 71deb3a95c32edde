"""Golden cases: LightGBM, XGBoost and CatBoost."""

import tempfile
from pathlib import Path

import numpy as np
import onnx
from catboost import CatBoostClassifier, CatBoostRegressor
from lightgbm import LGBMClassifier, LGBMRegressor
from onnxmltools.convert import convert_lightgbm, convert_xgboost
from xgboost import XGBClassifier, XGBRegressor

from case import Case, boosted
from data import LABELS, ROWS, classes, counts, targets, with_missing

LIGHTGBM = {"n_estimators": 8, "num_leaves": 8, "random_state": 0, "verbose": -1, "n_jobs": 1}
XGBOOST = {"n_estimators": 8, "max_depth": 3, "random_state": 0, "n_jobs": 1}
CATBOOST = {
    "iterations": 8,
    "depth": 3,
    "random_seed": 0,
    "thread_count": 1,
    "verbose": False,
    "allow_writing_files": False,
}


def cases() -> list[Case]:
    """Fits all three libraries."""
    return lightgbm_cases() + xgboost_cases() + catboost_cases()


def lightgbm_cases() -> list[Case]:
    """Two classes, three as a ZipMap, gaps, and regressions."""
    x_two, two = classes(2)
    x_three, three = classes(3)
    x, y = targets()
    _, count = counts()
    gaps = with_missing(x_two)

    def case(name, estimator, rows, zipmap=False):
        return boosted(
            f"lightgbm_{name}", "LightGBM", convert_lightgbm, estimator, rows[ROWS], zipmap
        )

    poisson = LGBMRegressor(objective="poisson", **LIGHTGBM)
    return [
        case("binary", LGBMClassifier(**LIGHTGBM).fit(x_two, two), x_two),
        case("multiclass", LGBMClassifier(**LIGHTGBM).fit(x_three, three), x_three),
        case("multiclass_zipmap", LGBMClassifier(**LIGHTGBM).fit(x_three, three), x_three, True),
        case("binary_missing", LGBMClassifier(**LIGHTGBM).fit(gaps, two), gaps),
        case("regression", LGBMRegressor(**LIGHTGBM).fit(x, y), x),
        case("poisson", poisson.fit(x, count), x),
    ]


def xgboost_cases() -> list[Case]:
    """Two classes, three, gaps, and regressions."""
    x_two, two = classes(2)
    x_three, three = classes(3)
    x, y = targets()
    _, count = counts()
    gaps = with_missing(x_two)

    def case(name, estimator, rows):
        return boosted(f"xgboost_{name}", "XGBoost", convert_xgboost, estimator, rows[ROWS])

    poisson = XGBRegressor(objective="count:poisson", **XGBOOST)
    return [
        case("binary", XGBClassifier(**XGBOOST).fit(x_two, two), x_two),
        case("multiclass", XGBClassifier(**XGBOOST).fit(x_three, three), x_three),
        case("binary_missing", XGBClassifier(**XGBOOST).fit(gaps, two), gaps),
        case("regression", XGBRegressor(**XGBOOST).fit(x, y), x),
        case("regression_missing", XGBRegressor(**XGBOOST).fit(gaps, y), gaps),
        case("poisson", poisson.fit(x, count), x),
    ]


def catboost_cases() -> list[Case]:
    """CatBoost writes ONNX itself; classifiers answer with a ZipMap."""
    x_two, two = classes(2)
    x_three, three = classes(3, LABELS)
    x, y = targets()
    return [
        catboost_classifier("catboost_binary", CatBoostClassifier(**CATBOOST), x_two, two),
        catboost_classifier("catboost_named", CatBoostClassifier(**CATBOOST), x_three, three),
        catboost_regressor("catboost_regression", CatBoostRegressor(**CATBOOST).fit(x, y), x[ROWS]),
    ]


def catboost_onnx(estimator) -> onnx.ModelProto:
    """Returns CatBoost's own export."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        estimator.save_model(str(path), format="onnx")
        return onnx.load(path)


def catboost_classifier(name: str, estimator, x: np.ndarray, y: np.ndarray) -> Case:
    """Fits and makes a case of a classifier."""
    estimator.fit(x, y)
    rows = x[ROWS]
    expected = [estimator.predict(rows).ravel(), estimator.predict_proba(rows).astype("f4")]
    return Case(
        name,
        "CatBoost",
        catboost_onnx(estimator),
        {"features": rows},
        expected,
        estimator.classes_.tolist(),
    )


def catboost_regressor(name: str, estimator, rows: np.ndarray) -> Case:
    """Makes a case of a fitted regressor."""
    expected = [estimator.predict(rows).astype("f4")[:, None]]
    return Case(name, "CatBoost", catboost_onnx(estimator), {"features": rows}, expected)
