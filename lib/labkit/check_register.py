"""The register of all checks of data, method, model and monitoring: codes, titles, consequences and remedies.

Codes are never reused: the first digit is the number of the notebook whose page shows the check; 7 is that of
monitoring.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Definition:
    """One check of the register.

    Attributes
    ----------
    title
        What is checked.
    section
        Heading of the section of the page that has the details.
    consequence
        What follows if it does not pass.
    remedy
        What to do then.
    """

    title: str
    section: str
    consequence: str
    remedy: str


REGISTER: dict[str, Definition] = {
    "LK201": Definition(
        "Target leakage", "Rows and columns dropped",
        "The model would learn from what is not known when it predicts.",
        "Drop the column in `wrangling.drop`, or confirm that it is known in time.",
    ),
    "LK202": Definition(
        "Duplicates across the split", "The split",
        "The holdout rewards remembering rows, so its metric is too good.",
        "Set `wrangling.duplicates: drop`, or split by the group that repeats.",
    ),
    "LK203": Definition(
        "Outcomes known in time", "The split",
        "Training would learn from the future of the rows that evaluate it.",
        "Set `data.time.outcome_known_at` to when the outcome is really known.",
    ),
    "LK204": Definition(
        "Groups across the split", "The split",
        "Rows of one group resemble each other, so the metric is too good for new groups.",
        "Set `data.split: {method: group, group: …}`.",
    ),
    "LK205": Definition(
        "Drift between training and holdout", "The split",
        "The model predicts for rows unlike those that it learned from.",
        "Find out why the columns changed; train on later rows too, or leave the columns out with `features.drop`.",
    ),
    "LK206": Definition(
        "Rows in exactly one part", "The split",
        "The evaluation is not independent of the training.",
        "This is a fault of the split: report it.",
    ),
    "LK207": Definition(
        "Cleaning twice", "The split",
        "Live requests would be cleaned differently from the training rows.",
        "Change the rule whose output another rule changes again.",
    ),
    "LK208": Definition(
        "Rows per class", "The split",
        "Metrics of a class with few rows are mostly luck.",
        "Collect more rows, or merge rare classes with `data.target.rare`.",
    ),
    "LK209": Definition(
        "Open findings of the exploration", "Rows and columns dropped",
        "What looked wrong in the data is still in the training rows.",
        "Declare the fix that the table of findings names, or leave it deliberately.",
    ),
    "LK301": Definition(
        "Families that do harm", "Are they worth it?",
        "A family of features may cost more than it gains: LightGBM predicts the validation rows better without it.",
        "Leave the family out and compare in cross-validation; another kind of model may still use it.",
    ),
    "LK302": Definition(
        "New columns beyond their range in training", "Are they worth it?",
        "The model has not learned from such values: it extrapolates, or predicts as at the edge of what it knows.",
        "Leave them out, or use features whose values recur, such as the weekday in place of the day of the year.",
    ),
    "LK303": Definition(
        "New columns that repeat raw ones", "Are they worth it?",
        "The model gets the same information twice, and the importance of each of the two understates it.",
        "Leave one of the two out: the new column, or the raw one with `features.drop`.",
    ),
    "LK401": Definition(
        "Validation against cross-validation", "A check on the validation rows",
        "The cross-validated metric is too optimistic for new rows.",
        "Rely on the holdout metric; look for drift and for columns that identify rows.",
    ),
    "LK402": Definition(
        "Overfitting", "A check on the validation rows",
        "It fits its training rows much better than new ones; with less flexibility it may predict as well.",
        "Try simpler models or stronger regularisation; forests commonly show this without harm.",
    ),
    "LK403": Definition(
        "Stability of the ranking", "The candidates",
        "Another split could rank them in another order.",
        "Prefer the simpler or the faster of the candidates that lie this close.",
    ),
    "LK404": Definition(
        "Gain of tuning", "Tuning",
        "The best of many trials looks better than it is.",
        "Expect about the metric of the untuned candidate, or use more folds.",
    ),
    "LK405": Definition(
        "Candidate against dummy", "The candidates",
        "It predicts no better than the dummy, a constant.",
        "Look for columns that carry information about the target.",
    ),
    "LK406": Definition(
        "Failed candidates", "The candidates",
        "The failed candidates were not compared.",
        "Read the reason in the leaderboard, or leave them out of `training.models`.",
    ),
    "LK501": Definition(
        "Gain over the dummy", "The gate",
        "It must not be published.", "Improve the features, or lower `evaluation.gate.minimum_gain` for a reason.",
    ),
    "LK502": Definition(
        "Days of the holdout", "The gate",
        "A few days are a few observations, however many rows they have.",
        "Move `data.split.holdout_from` to an earlier day.",
    ),
    "LK503": Definition(
        "Plausible result", "The gate",
        "A nearly perfect metric usually means that an input is known only after the outcome.",
        "Examine the columns that the model relies on most.",
    ),
    "LK504": Definition(
        "Classes of training and holdout", "The gate",
        "The model cannot predict some classes, or they are not evaluated.",
        "Choose the days of the split so that each part has every class.",
    ),
    "LK505": Definition(
        "Gain over plain LightGBM", "How good it is",
        "What was done beyond plain LightGBM has not been shown to be worth its cost.",
        "Prefer the simpler of the two.",
    ),
    "LK506": Definition(
        "Holdout against cross-validation", "How good it is",
        "The cross-validated metric was too optimistic; only the holdout metric may be expected of new rows.",
        "Look for drift between the parts and for columns that identify rows.",
    ),
    "LK507": Definition(
        "Calibration on average", "Its errors",
        "Predictions are systematically too high or too low.",
        "Calibrate with `training.calibrate`, or train on later rows.",
    ),
    "LK508": Definition(
        "Weak groups of rows", "Where it is weak",
        "Their mean loss is higher than that of the other rows: it is weak there, or they are harder to predict.",
        "Check the group with a domain expert; collect rows or features for it.",
    ),
    "LK509": Definition(
        "Confidence of probabilities", "Its errors",
        "Probabilities are too extreme or too cautious: costs and thresholds computed from them are off.",
        "With two classes, set `training.calibrate`; else compare a simpler model.",
    ),
    "LK510": Definition(
        "Plots of your own", "Its errors",
        "The page lacks what they would show.", "Correct the function; the evidence names file and line.",
    ),
    "LK511": Definition(
        "Differences between groups on the holdout", "Where it is weak",
        "The model is shown to treat groups of a declared column differently by more than is accepted, so the gate "
        "refuses it.",
        "Examine the groups, or raise `evaluation.gate.fairness.most_difference` for a reason.",
    ),
    "LK601": Definition(
        "Served predictions", "The ONNX graph",
        "The service would predict differently from what was evaluated.",
        "Set `deploy.onnx: false` to serve the pipeline.",
    ),
    "LK602": Definition(
        "Size of the release", "The directory",
        "It must not be published.", "Leave the largest models out of `training.models`.",
    ),
    "LK603": Definition(
        "Gain over the champion", "The gate",
        "The champion stays in service.",
        "Improve the model, or raise `evaluation.gate.champion_tolerance` for a reason.",
    ),
    "LK604": Definition(
        "Groups of rows against the champion", "The gate",
        "Predictions for these rows would be much worse than today's, even if they are better on average.",
        "Look for what the group lacks in training, or raise `evaluation.gate.slice_tolerance` for a reason.",
    ),
    "LK605": Definition(
        "Requests that the champion accepts", "The gate",
        "Clients that send what they send today would be refused.",
        "Tell the clients, then promote the version with `labkit promote`.",
    ),
    "LK606": Definition(
        "Holdout rows in training", "The gate",
        "It must not be published: its metrics are not those of rows it has never seen.",
        "Fit it on the training and validation rows only.",
    ),
    "LK607": Definition(
        "Time of one prediction", "The gate",
        "Requests would take longer than is accepted.",
        "Choose a simpler model, or raise `evaluation.gate.most_milliseconds`.",
    ),
    "LK608": Definition(
        "Differences between groups", "The gate",
        "The model is shown to treat some groups differently by more than is accepted, so it must not be published.",
        "Examine the groups; see `evaluation.gate.fairness`.",
    ),
    "LK609": Definition(
        "Required value", "The gate",
        "It does not reach what the params require, whether or not it is better than the champion.",
        "Improve the model, or change `evaluation.gate.required_value` for a reason.",
    ),
    "LK610": Definition(
        "Calibration error", "The gate",
        "Predicted values differ too much from true values to be taken literally.",
        "With two classes, set `training.calibrate`; else compare a simpler model.",
    ),
    "LK611": Definition(
        "Refitted against evaluated model", "The published model",
        "The metrics were measured on the evaluated model and may not hold for the one that is published.",
        "Look at what the added rows changed, choose a model that varies less with its rows, or unset `deploy.refit`.",
    ),
    "LK701": Definition(
        "Contract of the inputs", "The rows",
        "The model gets inputs that it was not made for: its predictions mean nothing there.",
        "Correct the source of the rows, or train on rows of the new form.",
    ),
    "LK702": Definition(
        "Units", "What has changed",
        "A column seems to have another unit, and the model takes its values for those of the old one.",
        "Ask the source of the column; convert it, or train again.",
    ),
    "LK703": Definition(
        "Traffic", "The rows",
        "No rows arrive, so nobody gets predictions, or they are not logged.",
        "Check the service, its clients and its log.",
    ),
    "LK704": Definition(
        "Distribution of the columns", "What has changed",
        "Predictions are for rows unlike those that the model learned from. It may still be good: compare true values.",
        "Find out what changed at the source; wait for true values before training again.",
    ),
    "LK705": Definition(
        "Unseen values", "What has changed",
        "The model treats all unseen values alike.", "Train again once there are enough rows with these values.",
    ),
    "LK706": Definition(
        "Missing values", "What has changed",
        "The model replaces missing values, so it loses what the column says.",
        "Check the source of the column.",
    ),
    "LK707": Definition(
        "Relations between columns", "What has changed",
        "Columns contradict each other as they did not before: often a fault of a sensor, a join or a unit.",
        "Check the source of the column.",
    ),
    "LK708": Definition(
        "Number of rows", "What has changed",
        "Clients send more or fewer rows than usual, or some are lost or sent twice.", "Compare with the source.",
    ),
    "LK709": Definition(
        "Distribution of the predictions", "What has changed",
        "The model predicts otherwise than on the holdout.",
        "Compare with true values as soon as they are known.",
    ),
    "LK710": Definition(
        "Readable rows", "The rows",
        "Some rows were left out, so the others may not represent them.",
        "Check the log or the clock of the machine that wrote them.",
    ),
    "LK711": Definition(
        "Age of the data and of the last check", "Age",
        "The model does not know the time since its training, or nobody has looked at its rows for long.",
        "If the training rows are old, train on those up to now: `labkit run`. If the last check is, check more often.",
    ),
    "LK712": Definition(
        "Growth of the data", "Age",
        "The model was not trained on a large part of the rows that there are.",
        "Add the new rows to the raw tables and run `labkit run`; the gate decides.",
    ),
    "LK713": Definition(
        "Rows as a whole", "What has changed",
        "Columns occur together as they did not in the training rows, so the model predicts where it has not learned.",
        "Look at the columns named and at what changed at the source; wait for true values before training again.",
    ),
    "LK720": Definition(
        "Monitoring of the champion", "Age",
        "Nobody has looked at the rows of the model in service for long, so nothing that went wrong would be noticed.",
        "Check it with `labkit monitor`; `labkit watch` does so again and again.",
    ),
    "LK721": Definition(
        "Rows with true values", "Performance",
        "True values that cannot be joined are missing from all that is measured here.",
        "Correct the ids or values where they are reported, or name a file with `--outcomes`.",
    ),
    "LK722": Definition(
        "Metric against the holdout", "Performance",
        "The model predicts worse than was measured before its release.",
        "Look at the groups that got worse and at what has changed; train on the rows up to now.",
    ),
    "LK723": Definition(
        "Calibration on true values", "Performance",
        "Predictions are systematically too high or too low by now.",
        "Train on the rows up to now; until then, treat probabilities and thresholds with care.",
    ),
    "LK724": Definition(
        "Cost at the threshold in force", "Performance",
        "Acting on the predictions costs more than was measured before the release.",
        "Train on the rows up to now, which chooses the threshold again.",
    ),
    "LK725": Definition(
        "Groups of rows that got worse", "Performance",
        "For these rows the model errs more than it did on the holdout, even if it is as good on average.",
        "Find out what changed for the group; collect rows of it and train again.",
    ),
    "LK726": Definition(
        "Expected metric without true values", "Performance",
        "The model is less sure than it was on the holdout. That it is wrong while it is sure cannot be seen here.",
        "Get true values for a random sample of the rows, by feedback or by labelling.",
    ),
    "LK727": Definition(
        "Training again", "Age",
        "The champion stays in service although training was asked for, and more attempts would fail in the same way.",
        "Correct what the error names; it is tried again once data, code or parameters change, or with `--reason`.",
    ),
    "LK728": Definition(
        "Outcomes fed back", "Age",
        "The rates of past outcomes stay as they are, and predictions follow them, until the file can be observed.",
        "Correct the file as the message says; the next one that can be observed ends the alert.",
    ),
    "LK731": Definition(
        "Contract of the raw table", "The file",
        "The stage `source` would refuse it.",
        "Correct the file; if the change is intended, remove `contract.json` of the experiment and run.",
    ),
    "LK732": Definition(
        "New leakage of the target", "The file",
        "A model trained on it would learn from what is not known when it predicts.",
        "Drop the column in `wrangling.drop`, or correct its source.",
    ),
    "LK733": Definition(
        "New findings about the data", "The file",
        "What looks wrong here was not in the data of the last run, and nothing is declared for it.",
        "Correct the source, or declare a fix in `wrangling`; `01_eda` shows each finding.",
    ),
    "LK901": Definition(
        "Explained predictions", "What it relies on",
        "The explanations are of other predictions than those that were evaluated.",
        "Run the stage `deploy` again; set `deploy.onnx: false` if it remains.",
    ),
    "LK902": Definition(
        "Precision of explanations", "Why single rows",
        "Explanations would differ much with other background rows, on this page and in the service.",
        "Raise `deploy.background_rows`.",
    ),
    "LK903": Definition(
        "Groups among the inputs", "What it relies on",
        "The model takes a column whose groups it has to treat alike, and predictions depend on it directly.",
        "Drop the column from the inputs in `features.drop` unless its use is justified.",
    ),
}  # fmt: skip
