"""Trains the flights model and writes it with its test data.

Trains a LightGBM classifier of "arrives at least 15 minutes late" on January to September 2013,
stops on October, and writes:

* models/flights/1/model.onnx: one input per feature column, strings included;
* flights.parquet: the scheduled departures of November and December, which training never saw.

The ONNX file must reproduce LightGBM's probabilities within 1e-5 on every row it is given, or
nothing is written.
"""

import argparse
from pathlib import Path

import lightgbm
import numpy as np
import onnx
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

import export
import features
from evaluate import best_threshold, predict, quality, report

FOLDER = Path(__file__).resolve().parent
TRAIN_UNTIL = pd.Timestamp("2013-10-01", tz=features.LOCAL_ZONE)
TEST_FROM = pd.Timestamp("2013-11-01", tz=features.LOCAL_ZONE)
TOLERANCE = 1e-5

PARAMETERS = {
    "objective": "binary",
    "learning_rate": 0.03,
    "num_leaves": 63,
    "min_data_in_leaf": 200,
    "feature_fraction": 0.6,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "lambda_l2": 5.0,
    "seed": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbose": -1,
}


def category_ranks(train: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Ranks each category's values by their late rate in the training rows, the lowest first."""
    ranks = {}
    for column in features.CATEGORIES:
        rate = train.groupby(column)["late"].mean()
        order = sorted(rate.index, key=lambda value: (rate[value], value))
        ranks[column] = {value: float(rank) for rank, value in enumerate(order)}
    return ranks


def matrix(table: pd.DataFrame, ranks: dict, columns: list[str]) -> np.ndarray:
    """Returns the [rows, columns] float32 matrix that the trees see."""
    data = table[columns].copy()
    for column in features.CATEGORIES:
        if column in columns:
            data[column] = data[column].map(ranks[column]).fillna(export.UNKNOWN_CATEGORY)
    return data.to_numpy(np.float32)


def fit(train: pd.DataFrame, valid: pd.DataFrame, ranks: dict, columns: list[str], threads: int):
    """Fits on `train` and stops when the log-loss on `valid` has not improved for 50 rounds."""
    data = lightgbm.Dataset(matrix(train, ranks, columns), train["late"])
    check = lightgbm.Dataset(matrix(valid, ranks, columns), valid["late"], reference=data)
    parameters = {**PARAMETERS, "num_threads": threads}
    stop = lightgbm.early_stopping(50, verbose=False)
    return lightgbm.train(parameters, data, 800, valid_sets=[check], callbacks=[stop])


def check_reproduces(model: onnx.ModelProto, booster, rows: pd.DataFrame, ranks: dict) -> float:
    """Returns the largest difference between the ONNX model and LightGBM; raises above 1e-5."""
    expected = booster.predict(matrix(rows, ranks, features.FEATURES))
    found, _ = predict(model.SerializeToString(), rows)
    difference = float(np.abs(found - expected).max())
    if difference > TOLERANCE:
        raise SystemExit(f"ONNX differs from LightGBM by {difference:.2e} > {TOLERANCE:.0e}")
    return difference


def write_parquet(table: pd.DataFrame, path: Path) -> None:
    """Writes the rows with the model's datatypes: strings, INT64, and FP32 with NaN for missing."""
    known = table["late"].notna().to_numpy()
    time = pa.timestamp("ms", tz="UTC")
    columns = {
        "flight_id": pa.array(table["flight_id"].tolist(), pa.string()),
        "scheduled_at": pa.array(table["scheduled_at"], time),
        "label_at": pa.array(table["label_at"], time),
        "late": pa.array(table["late"].fillna(0).astype("int64").to_numpy(), mask=~known),
    }
    for name in features.CATEGORIES:
        columns[name] = pa.array(table[name].tolist(), pa.string())
    for name in features.INTEGERS:
        columns[name] = pa.array(table[name].to_numpy(np.int64))
    for name in features.FLOATS:
        columns[name] = pa.array(table[name].to_numpy(np.float32), from_pandas=False)
    pq.write_table(pa.table(columns), path, compression="zstd", compression_level=19)


def without_weather(train, valid, test, ranks, threads) -> float:
    """Returns the test AUC of the same model without the weather columns."""
    from sklearn.metrics import roc_auc_score

    columns = [name for name in features.FEATURES if name not in features.WEATHER]
    booster = fit(train, valid, ranks, columns, threads)
    return roc_auc_score(test["late"], booster.predict(matrix(test, ranks, columns)))


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder to write into")
    parser.add_argument("--threads", type=int, default=2, help="LightGBM threads")
    arguments = parser.parse_args()

    table = features.load_table()
    labelled = table[table["late"].notna()]
    train = labelled[labelled["scheduled_at"] < TRAIN_UNTIL]
    test = labelled[labelled["scheduled_at"] >= TEST_FROM]
    valid = labelled[labelled["scheduled_at"] >= TRAIN_UNTIL]
    valid = valid[valid["scheduled_at"] < TEST_FROM]
    ranks = category_ranks(train)
    booster = fit(train, valid, ranks, features.FEATURES, arguments.threads)
    scores = booster.predict(matrix(valid, ranks, features.FEATURES))
    threshold = best_threshold(valid["late"].to_numpy(), scores)
    print(f"rows: train {len(train)}, validation {len(valid)}, test {len(test)}")
    print(f"trees: {booster.best_iteration}, threshold {threshold:.4f}")

    model = export.build(booster, ranks, threshold)
    difference = check_reproduces(model, booster, table, ranks)
    print(f"ONNX against LightGBM over {len(table)} rows: {difference:.1e}")
    path = arguments.out / "models" / "flights" / "1" / "model.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    write_parquet(table[table["scheduled_at"] >= TEST_FROM], arguments.out / "flights.parquet")

    print("October:", report(quality(valid["late"].to_numpy(), scores, threshold)), sep="\n")
    auc = without_weather(train, valid, test, ranks, arguments.threads)
    print(f"November and December, AUC without the weather columns: {auc:.3f}")


if __name__ == "__main__":
    main()
