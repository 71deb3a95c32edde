"""Golden cases: classifiers of scikit-learn."""

from sklearn.calibration import CalibratedClassifierCV
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.naive_bayes import BernoulliNB, GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier

from case import Case, classifier, scorer
from data import LABELS, ROWS, classes, with_missing

SMALL = {"n_estimators": 8, "random_state": 0}


def estimators() -> dict:
    """Returns unfitted classifiers by name; each is tried on two classes and on three."""
    few_trees = {**SMALL, "max_depth": 5}
    svc = {"probability": True, "random_state": 0}
    members = [
        ("linear", LogisticRegression()),
        ("tree", DecisionTreeClassifier(max_depth=3, random_state=0)),
    ]
    return {
        "logistic_regression": LogisticRegression(),
        "sgd_log_loss": SGDClassifier(loss="log_loss", random_state=0),
        "svc_rbf": SVC(**svc),
        "svc_poly": SVC(kernel="poly", degree=2, coef0=0.5, **svc),
        "svc_linear": SVC(kernel="linear", **svc),
        "svc_sigmoid": SVC(kernel="sigmoid", **svc),
        "decision_tree": DecisionTreeClassifier(max_depth=5, random_state=0),
        "random_forest": RandomForestClassifier(**few_trees),
        "extra_trees": ExtraTreesClassifier(**few_trees),
        "gradient_boosting": GradientBoostingClassifier(**SMALL),
        "hist_gradient_boosting": HistGradientBoostingClassifier(max_iter=8, random_state=0),
        "ada_boost": AdaBoostClassifier(n_estimators=4, random_state=0),
        "bagging": BaggingClassifier(
            DecisionTreeClassifier(max_depth=4), n_estimators=4, random_state=0
        ),
        "k_neighbors": KNeighborsClassifier(3),
        "gaussian_nb": GaussianNB(),
        "bernoulli_nb": BernoulliNB(),
        "mlp": MLPClassifier(hidden_layer_sizes=(8,), max_iter=300, random_state=0),
        "calibrated_linear_svc": CalibratedClassifierCV(LinearSVC(random_state=0), cv=2),
        "voting_soft": VotingClassifier(members, voting="soft", flatten_transform=False),
        "stacking": StackingClassifier(members),
    }


def cases() -> list[Case]:
    """Fits everything: two numbered classes as a matrix, three named ones as a ZipMap."""
    x_two, two = classes(2)
    x_three, three = classes(3, LABELS)
    found = []
    for name, estimator in estimators().items():
        found.append(classifier(f"{name}_binary", estimator.fit(x_two, two), x_two[ROWS]))
        fitted = estimator.fit(x_three, three)
        found.append(classifier(f"{name}_named_zipmap", fitted, x_three[ROWS], zipmap=True))
    return found + special()


def special() -> list[Case]:
    """Classifiers whose outputs, labels or inputs are not the usual ones."""
    x_two, two = classes(2)
    x_three, three = classes(3)
    lda = LinearDiscriminantAnalysis().fit(x_three, three)
    gaps = with_missing(x_three)
    boosting = HistGradientBoostingClassifier(max_iter=8, random_state=0).fit(gaps, three)
    forest = RandomForestClassifier(max_depth=4, **SMALL).fit(x_two, LABELS[two])
    logistic = LogisticRegression().fit(x_three, three * 10 - 5)
    return [
        classifier("logistic_regression_int_zipmap", logistic, x_three[ROWS], zipmap=True),
        classifier("logistic_regression_matrix", logistic, x_three[ROWS]),
        classifier("linear_discriminant_analysis", lda, x_three[ROWS]),
        classifier("hist_gradient_boosting_missing", boosting, gaps[ROWS]),
        classifier("random_forest_named_binary", forest, x_two[ROWS]),
        scorer("linear_svc_binary", LinearSVC(random_state=0).fit(x_two, two), x_two[ROWS]),
        scorer("linear_svc", LinearSVC(random_state=0).fit(x_three, three), x_three[ROWS]),
        scorer("svc_scores", SVC().fit(x_three, three), x_three[ROWS], {"zipmap": False}),
    ]
