"""Scores flights.parquet with models/flights/1/model.onnx and prints the quality.

Runs the committed files under ONNX Runtime; no training. Rows whose label never arrived
(cancelled and diverted flights) are scored but cannot be judged.
"""

import argparse
from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd
import pyarrow.parquet as pq
from sklearn import metrics

FOLDER = Path(__file__).resolve().parent


def predict(model: str | bytes, table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Returns each row's `late_probability` and `late_predicted`."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    dtypes = {"tensor(string)": object, "tensor(int64)": np.int64, "tensor(float)": np.float32}
    feed = {
        value.name: table[value.name].to_numpy(dtypes[value.type])[:, None]
        for value in session.get_inputs()
    }
    probability, predicted = session.run(["late_probability", "late_predicted"], feed)
    return probability[:, 0], predicted[:, 0]


def best_threshold(late: np.ndarray, probability: np.ndarray) -> float:
    """Returns the threshold with the highest F1 score."""
    precision, recall, thresholds = metrics.precision_recall_curve(late, probability)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    return float(thresholds[np.argmax(f1[:-1])])


def quality(late: np.ndarray, probability: np.ndarray, threshold: float) -> dict[str, float]:
    """Returns the metrics, each beside what a constant prediction of the base rate would score."""
    base = np.full(len(late), late.mean())
    flagged = probability >= threshold
    return {
        "flights": len(late),
        "base rate": late.mean(),
        "mean prediction": probability.mean(),
        "AUC": metrics.roc_auc_score(late, probability),
        "log-loss": metrics.log_loss(late, probability),
        "log-loss of the base rate": metrics.log_loss(late, base),
        "Brier score": metrics.brier_score_loss(late, probability),
        "Brier score of the base rate": metrics.brier_score_loss(late, base),
        "accuracy at 0.5": ((probability >= 0.5) == late).mean(),
        "accuracy of never late": 1 - late.mean(),
        "threshold": threshold,
        "flagged at the threshold": flagged.mean(),
        "precision at the threshold": metrics.precision_score(late, flagged),
        "recall at the threshold": metrics.recall_score(late, flagged),
        "precision of the top 5 %": late[np.argsort(-probability)[: len(late) // 20]].mean(),
    }


def report(values: dict[str, float]) -> str:
    """Formats the metrics as a Markdown table."""
    rows = [f"| {name} | {round(value, 4):g} |" for name, value in values.items()]
    return "\n".join(["| metric | value |", "|---|---:|", *rows])


def model_threshold(path: Path) -> float:
    """Reads the decision threshold from the model."""
    import onnx

    constants = {c.name: c for c in onnx.load(path).graph.initializer}
    return float(onnx.numpy_helper.to_array(constants["threshold"]))


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=FOLDER / "flights.parquet")
    parser.add_argument(
        "--model", type=Path, default=FOLDER / "models" / "flights" / "1" / "model.onnx"
    )
    arguments = parser.parse_args()
    table = pq.read_table(arguments.data).to_pandas()
    probability, _ = predict(str(arguments.model), table)
    known = table["late"].notna().to_numpy()
    late = table["late"].to_numpy()[known].astype(int)
    print(f"{len(table)} flights, {known.sum()} with a label")
    print(report(quality(late, probability[known], model_threshold(arguments.model))))


if __name__ == "__main__":
    main()
