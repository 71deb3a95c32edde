"""Golden cases: scalers, encoders, imputers, and whole pipelines of scikit-learn."""

import numpy as np
import pandas as pd
from lightgbm import LGBMClassifier
from onnxmltools.convert.lightgbm.operator_converters.LightGbm import convert_lightgbm
from skl2onnx import update_registered_converter
from skl2onnx.common.shape_calculator import calculate_linear_classifier_output_shapes
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_selection import SelectKBest, VarianceThreshold
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import (
    Binarizer,
    KBinsDiscretizer,
    LabelEncoder,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    PowerTransformer,
    RobustScaler,
    StandardScaler,
)

from case import Case, classifier, regressor, to_onnx, transformer
from data import ROWS, classes, mixed, skewed, targets, with_missing

STRINGS = ["city", "plan"]
NUMBERS = ["age", "income"]


def cases() -> list[Case]:
    """Fits everything."""
    return numeric() + missing() + encoders() + pipelines()


def numeric() -> list[Case]:
    """Transformers of numbers."""
    x = skewed()
    _, y = classes(2)
    quantile = {"n_bins": 4, "strategy": "quantile", "quantile_method": "averaged_inverted_cdf"}
    estimators = {
        "standard_scaler": StandardScaler(),
        "standard_scaler_without_mean": StandardScaler(with_mean=False),
        "min_max_scaler": MinMaxScaler(),
        "min_max_scaler_clip": MinMaxScaler((-1, 1), clip=True),
        "max_abs_scaler": MaxAbsScaler(),
        "robust_scaler": RobustScaler(),
        "normalizer_l1": Normalizer("l1"),
        "normalizer_l2": Normalizer("l2"),
        "normalizer_max": Normalizer("max"),
        "power_transformer": PowerTransformer(),
        "binarizer": Binarizer(threshold=1.0),
        "k_bins_ordinal": KBinsDiscretizer(encode="ordinal", **quantile),
        "k_bins_one_hot": KBinsDiscretizer(encode="onehot-dense", **quantile),
        "polynomial_features": PolynomialFeatures(2),
        "polynomial_interactions": PolynomialFeatures(3, interaction_only=True),
        "pca": PCA(2),
        "pca_whiten": make_pipeline(StandardScaler(), PCA(3, whiten=True)),
        "truncated_svd": TruncatedSVD(2, random_state=0),
        "variance_threshold": VarianceThreshold(0.1),
        "select_k_best": SelectKBest(k=2),
        "feature_union": FeatureUnion([("scaled", StandardScaler()), ("pca", PCA(2))]),
    }
    found = [transformer(name, e.fit(x, y), x[ROWS]) for name, e in estimators.items()]
    whole = np.random.default_rng(4).integers(-5, 6, (300, 3))
    scaler = StandardScaler().fit(whole)
    return [*found, transformer("standard_scaler_int64", scaler, whole[ROWS]), k_means()]


def k_means() -> Case:
    """Makes a case of k-means: the nearest centre and the distances to all."""
    x = StandardScaler().fit_transform(skewed())
    model = KMeans(4, n_init=1, random_state=0).fit(x)
    rows = x[ROWS]
    expected = [model.predict(rows).astype("i8"), model.transform(rows).astype("f4")]
    return Case("k_means", "scikit-learn", to_onnx(model, {"x": rows}), {"x": rows}, expected)


def missing() -> list[Case]:
    """Imputers."""
    x = with_missing(skewed())
    estimators = {
        "imputer_mean": SimpleImputer(),
        "imputer_median": SimpleImputer(strategy="median"),
        "imputer_most_frequent": SimpleImputer(strategy="most_frequent"),
        "imputer_constant": SimpleImputer(strategy="constant", fill_value=-7.5),
        "imputer_then_scaler": make_pipeline(SimpleImputer(), StandardScaler()),
    }
    return [transformer(name, e.fit(x), x[ROWS]) for name, e in estimators.items()]


def encoders() -> list[Case]:
    """Encoders of strings and whole numbers; unknown values where they are allowed."""
    table, _ = mixed()
    strings = table[STRINGS].to_numpy(object)
    whole = table[["visits"]].to_numpy()
    strange = strings[ROWS].copy()
    strange[::7, 0] = "Atlantis"
    estimators = {
        "ordinal_strings": (OrdinalEncoder(), strings, strings[ROWS]),
        "one_hot_strings": (OneHotEncoder(), strings, strings[ROWS]),
        "one_hot_strings_drop_first": (OneHotEncoder(drop="first"), strings, strings[ROWS]),
        "one_hot_unknown": (OneHotEncoder(handle_unknown="ignore"), strings, strange),
        "one_hot_int64": (OneHotEncoder(), whole, whole[ROWS]),
    }
    found = [transformer(name, e.fit(x), rows) for name, (e, x, rows) in estimators.items()]
    return [*found, label_encoder("label_encoder_strings", strings[:, 0])]


def label_encoder(name: str, values: np.ndarray) -> Case:
    """Makes a case of a label encoder, which takes a vector."""
    encoder = LabelEncoder().fit(values)
    rows = values[ROWS]
    inputs = {"x": rows}
    return Case(name, "scikit-learn", to_onnx(encoder, inputs), inputs, [encoder.transform(rows)])


def preprocessor() -> ColumnTransformer:
    """Returns the usual treatment of a mixed table."""
    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    return ColumnTransformer(
        [
            ("strings", OneHotEncoder(handle_unknown="ignore"), STRINGS),
            ("numbers", numbers, NUMBERS),
            ("counts", MinMaxScaler(), ["visits"]),
        ]
    )


def pipelines() -> list[Case]:
    """Pipelines from raw columns to predictions."""
    table, y = mixed()
    rows: pd.DataFrame = table[ROWS]
    income = table["income"].to_numpy() / 10
    forest = RandomForestClassifier(8, max_depth=4, random_state=0)
    logistic = Pipeline([("columns", preprocessor()), ("model", LogisticRegression())])
    named = Pipeline([("columns", preprocessor()), ("model", forest)])
    ridge = Pipeline([("columns", preprocessor()), ("model", Ridge())])
    x, target = targets()
    polynomial = make_pipeline(StandardScaler(), PolynomialFeatures(2), Ridge())
    return [
        transformer("column_transformer", preprocessor().fit(table), rows),
        classifier("mixed_logistic_regression", logistic.fit(table, y), rows),
        classifier("mixed_random_forest_zipmap", named.fit(table, y), rows, zipmap=True),
        regressor("mixed_ridge", ridge.fit(table, income), rows),
        regressor("polynomial_ridge", polynomial.fit(x, target), x[ROWS]),
        lightgbm_pipeline(table, y),
    ]


def lightgbm_pipeline(table: pd.DataFrame, y: np.ndarray) -> Case:
    """Makes a case of LightGBM at the end of a scikit-learn pipeline."""
    update_registered_converter(
        LGBMClassifier,
        "LightGbmLGBMClassifier",
        calculate_linear_classifier_output_shapes,
        convert_lightgbm,
        options={"zipmap": [True, False, "columns"], "nocl": [True, False]},
    )
    model = LGBMClassifier(n_estimators=8, num_leaves=8, random_state=0, verbose=-1, n_jobs=1)
    pipeline = Pipeline([("columns", preprocessor()), ("model", model)])
    case = classifier("mixed_lightgbm", pipeline.fit(table, y), table[ROWS])
    case.trainer = "scikit-learn and LightGBM"
    return case
