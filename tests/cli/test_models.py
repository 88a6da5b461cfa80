"""`instseg models`: the models in the package, listed and one by one."""

import json
from pathlib import Path


def test_the_models_of_the_package_are_listed(run):
    result = run("models")
    assert (result.exit_code, result.stderr) == (0, "")
    lines = [line.split() for line in result.stdout.splitlines()]
    assert {"nuclei", "shapes"} <= {words[0] for words in lines if words}
    assert "instseg models NAME shows a model's card." in result.stdout


def test_a_card_says_what_a_model_is_for(run):
    result = run("models", "nuclei")
    assert (result.exit_code, result.stderr) == (0, "")
    fields = {line.split("  ")[0].strip() for line in result.stdout.splitlines()}
    assert {"name", "segments", "trained on", "licence", "figures", "limits"} <= fields


def test_json_names_the_folders(run):
    rows = json.loads(run("models", "--json").stdout)
    assert [row["name"] for row in rows] == ["general", "nuclei", "shapes"]
    assert all((Path(row["path"]) / "instseg.json").is_file() for row in rows)
    (row,) = json.loads(run("models", "shapes", "--json").stdout)
    assert row == rows[2]


def test_a_name_that_the_package_lacks_is_refused(run, refused):
    assert refused(run("models", "nucleus")) == "the package has no model 'nucleus'; it has: general, nuclei, shapes"
