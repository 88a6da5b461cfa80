"""Modules import each other in one direction only."""

import graphlib

import grimp


def test_no_modules_import_each_other_in_a_circle():
    graph = grimp.build_graph("instseg")
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    assert len(imports) > 100
    # Raises CycleError, which names the modules of a circle.
    order = list(graphlib.TopologicalSorter(imports).static_order())
    assert order.index("instseg.errors") < order.index("instseg.cli.predict")
