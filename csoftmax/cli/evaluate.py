"""The command `evaluate`."""

from __future__ import annotations

import typer

import csoftmax as cs
from csoftmax.cli.inputs import (
    as_trained,
    check_pixels,
    describe,
    find_fashion_mnist,
    load_model,
    model_for,
    options_for,
    pixels_expected,
    stored_dtype,
    tell_order,
    tell_positions,
)
from csoftmax.cli.messages import users_mistakes
from csoftmax.cli.options import (
    Columns,
    Data,
    DecimalMark,
    Drop,
    Encoding,
    HasHeader,
    LabelColumn,
    LabelsAs,
    MissingValues,
    ModelFile,
    Threads,
)
from csoftmax.data import read_parts


def evaluate(
    context: typer.Context,
    model_file: ModelFile,
    data: Data = None,
    label_column: LabelColumn = None,
    drop: Drop = None,
    columns: Columns = None,
    header: HasHeader = None,
    missing: MissingValues = None,
    labels: LabelsAs = None,
    decimal: DecimalMark = None,
    encoding: Encoding = None,
    threads: Threads = None,
) -> None:
    """Print how good a model is on the test set, or on all samples where there is no test set."""
    with users_mistakes():
        model = load_model(model_file)
        table = options_for(model, context, stored_dtype(model).value, data)
        if data is None:
            _, test_set = find_fashion_mnist(print)
            if test_set.n_features != model.n_features:
                raise ValueError(
                    f"the model has {model.n_features} features, and no --data was given: "
                    f"{test_set.name}, which is taken then, has {test_set.n_features}"
                )
        else:
            with pixels_expected(model):
                whole, test = read_parts(data, **table)
            tell_order(data, table)
            test_set = whole if test is None else test
        model_for(test_set, data, model, None, None)
        test_set = as_trained(test_set, model, print)
        check_pixels(model, test_set.X, str(data))
    if data is not None:
        tell_positions(model, print)
    print(f"{model_file} on {describe(test_set)}")
    print(cs.evaluate(model, test_set, n_threads=threads))
