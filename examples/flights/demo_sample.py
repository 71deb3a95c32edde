"""Writes demo.npz: every ninth labelled flight of flights.parquet, in the order of departure.

`landfall demo` carries it, and replays it against the model. One array per input of the model, and
`late`, which was measured.
"""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

FOLDER = Path(__file__).resolve().parent
EVERY = 9
NOT_INPUTS = ["flight_id", "scheduled_at", "label_at"]


def main() -> None:
    """Writes the file."""
    table = pq.read_table(FOLDER / "flights.parquet").to_pandas()
    table = table[table.late.notna()].sort_values(["scheduled_at", "flight_id"])
    table = table.iloc[::EVERY].drop(columns=NOT_INPUTS).astype({"late": np.int8})
    columns = {name: column.to_numpy() for name, column in table.items()}
    arrays = {k: v.astype("U") if v.dtype == object else v for k, v in columns.items()}
    np.savez_compressed(FOLDER / "demo.npz", **arrays)
    print(f"wrote {len(table)} flights, {table.late.mean():.4f} of them late")


if __name__ == "__main__":
    main()
