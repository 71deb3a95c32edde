"""Golden cases: regressors of scikit-learn."""

import numpy as np
from sklearn.ensemble import (
    BaggingRegressor,
    ExtraTreesRegressor,
    GradientBoostingRegressor,
    HistGradientBoostingRegressor,
    RandomForestRegressor,
)
from sklearn.linear_model import (
    BayesianRidge,
    ElasticNet,
    GammaRegressor,
    Lasso,
    LinearRegression,
    PoissonRegressor,
    Ridge,
    TweedieRegressor,
)
from sklearn.neighbors import KNeighborsRegressor
from sklearn.neural_network import MLPRegressor
from sklearn.svm import SVR, LinearSVR, NuSVR
from sklearn.tree import DecisionTreeRegressor

from case import Case, regressor
from data import ROWS, counts, targets, with_missing

SMALL = {"n_estimators": 8, "random_state": 0}


def estimators() -> dict:
    """Returns unfitted regressors by name."""
    few_trees = {**SMALL, "max_depth": 5}
    return {
        "linear_regression": LinearRegression(),
        "ridge": Ridge(),
        "lasso": Lasso(0.01),
        "elastic_net": ElasticNet(0.01),
        "bayesian_ridge": BayesianRidge(),
        "svr_rbf": SVR(),
        "svr_sigmoid": SVR(kernel="sigmoid", C=0.1),
        "nu_svr_poly": NuSVR(kernel="poly"),
        "linear_svr": LinearSVR(random_state=0),
        "decision_tree_regressor": DecisionTreeRegressor(max_depth=4, random_state=0),
        "random_forest_regressor": RandomForestRegressor(**few_trees),
        "extra_trees_regressor": ExtraTreesRegressor(**few_trees),
        "gradient_boosting_regressor": GradientBoostingRegressor(**SMALL),
        "hist_gradient_boosting_regressor": HistGradientBoostingRegressor(
            max_iter=8, random_state=0
        ),
        "bagging_regressor": BaggingRegressor(
            DecisionTreeRegressor(max_depth=4), n_estimators=4, random_state=0
        ),
        "k_neighbors_regressor": KNeighborsRegressor(3),
        "mlp_regressor": MLPRegressor(hidden_layer_sizes=(8,), max_iter=300, random_state=0),
    }


def cases() -> list[Case]:
    """Fits everything on one target, and a few on counts, on two targets, and with gaps."""
    x, y = targets()
    found = [regressor(name, e.fit(x, y), x[ROWS]) for name, e in estimators().items()]
    both = np.stack([y, -2 * y + x[:, 0]], axis=1)
    gaps = with_missing(x)
    _, count = counts()
    fitted = {
        "poisson_regressor": (PoissonRegressor().fit(x, count), x),
        "gamma_regressor": (GammaRegressor().fit(x, count + 1), x),
        "tweedie_regressor": (TweedieRegressor(power=1.5).fit(x, count + 0.1), x),
        "linear_regression_two_targets": (LinearRegression().fit(x, both), x),
        "random_forest_two_targets": (
            RandomForestRegressor(max_depth=4, **SMALL).fit(x, both),
            x,
        ),
        "hist_gradient_boosting_regressor_missing": (
            HistGradientBoostingRegressor(max_iter=8, random_state=0).fit(gaps, y),
            gaps,
        ),
    }
    return found + [regressor(name, e, rows[ROWS]) for name, (e, rows) in fitted.items()]
