"""The data that the golden cases train on. Synthetic, seeded, FP32."""

import numpy as np
import pandas as pd
from sklearn.datasets import make_classification, make_regression

TRAIN_ROWS = 300

# Rows of the training data that go into the golden files.
ROWS = slice(0, 40)

LABELS = np.array(["late", "early", "on time"])


def classes(count: int, names: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Returns [300, 6] features and labels of `count` classes; the labels are numbers or names."""
    x, y = make_classification(
        TRAIN_ROWS, 6, n_informative=4, n_redundant=0, n_classes=count, random_state=0
    )
    return x.astype("f4"), y if names is None else names[y]


def targets() -> tuple[np.ndarray, np.ndarray]:
    """Returns [300, 6] features and targets of unit variance."""
    x, y = make_regression(TRAIN_ROWS, 6, n_informative=4, noise=1, random_state=0)
    return x.astype("f4"), y / y.std()


def counts() -> tuple[np.ndarray, np.ndarray]:
    """Returns [300, 6] features and Poisson counts."""
    x, y = targets()
    return x, np.random.default_rng(0).poisson(np.exp(0.4 * y)).astype(float)


def with_missing(x: np.ndarray) -> np.ndarray:
    """Returns a copy with a tenth of the values NaN."""
    holes = np.random.default_rng(1).random(x.shape) < 0.1
    return np.where(holes, np.float32(np.nan), x)


def skewed() -> np.ndarray:
    """Returns [300, 4] positive features on very different scales."""
    x = np.exp(np.random.default_rng(2).standard_normal((TRAIN_ROWS, 4)))
    return (x * [1, 10, 100, 0.01]).astype("f4")


def mixed() -> tuple[pd.DataFrame, np.ndarray]:
    """Returns a table of strings, whole numbers and numbers with gaps, and two classes."""
    rng = np.random.default_rng(3)
    table = pd.DataFrame(
        {
            "city": rng.choice(["Oslo", "Łódź", "東京", "New York"], TRAIN_ROWS),
            "plan": rng.choice(["free", "basic", "pro"], TRAIN_ROWS),
            "visits": rng.integers(0, 20, TRAIN_ROWS),
            "age": rng.normal(40, 12, TRAIN_ROWS).astype("f4"),
            "income": rng.lognormal(3, 0.5, TRAIN_ROWS).astype("f4"),
        }
    )
    score = (table["city"] == "Oslo") + (table["plan"] == "pro") + table["visits"] / 10
    y = (score + rng.normal(0, 0.5, TRAIN_ROWS) > 1.5).to_numpy().astype(int)
    table.loc[rng.random(TRAIN_ROWS) < 0.1, "age"] = np.nan
    return table, y
