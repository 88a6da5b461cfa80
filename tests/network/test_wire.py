"""Reading and writing Protocol Buffers, against TensorFlow's own definitions."""

from pathlib import Path

import pytest
from tensorflow.core.protobuf.config_pb2 import ConfigProto
from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef
from tensorflow.core.protobuf.rewriter_config_pb2 import RewriterConfig
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from instseg.network.session import _config
from instseg.network.wire import iter_fields, message_field, number_field, read_signature

STORED = Path(__file__).parents[1] / "models" / "format-3" / "model" / "saved_model.pb"


@pytest.fixture(scope="module")
def meta_graph():
    return SavedModel.FromString(STORED.read_bytes()).meta_graphs[0]


def test_a_signature_is_what_tensorflow_reads(meta_graph):
    found = read_signature(meta_graph.SerializeToString(), "with_percentiles")
    expected = meta_graph.signature_def["with_percentiles"]
    for specs, tensors in ((found.inputs, expected.inputs), (found.outputs, expected.outputs)):
        assert specs.keys() == tensors.keys()
        for name, tensor in tensors.items():
            spec = specs[name]
            assert f"{spec.operation}:{spec.output}" == tensor.name
            assert spec.dtype == tensor.dtype
            assert spec.shape == tuple(dim.size for dim in tensor.tensor_shape.dim)
    assert found.inputs["image"].shape == (-1, -1, -1, 1)
    assert found.inputs["magnification"].shape == ()


def test_a_signature_that_is_not_there_is_named(meta_graph):
    with pytest.raises(ValueError, match="no signature other"):
        read_signature(meta_graph.SerializeToString(), "other")


def test_damaged_bytes_are_value_errors():
    small = MetaGraphDef()
    tensor = small.signature_def["f"].inputs["image"]
    tensor.name, tensor.dtype = "image:0", 1
    for size in (-1, 300):
        tensor.tensor_shape.dim.add().size = size
    content = small.SerializeToString()
    assert read_signature(content, "f").inputs["image"].shape == (-1, 300)
    refused = 0
    for place in range(len(content)):
        for damaged in (content[:place], content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :]):
            try:
                read_signature(damaged, "f")
            except ValueError:
                refused += 1
    assert refused > len(content)


def test_fields_of_all_kinds_are_passed_over():
    message = ConfigProto(inter_op_parallelism_threads=300, session_inter_op_thread_pool=[])
    message.gpu_options.per_process_gpu_memory_fraction = 0.5
    message.device_count["CPU"] = 2
    fields = dict(iter_fields(message.SerializeToString()))
    assert fields[5] == 300
    assert dict(iter_fields(fields[6]))[1].nbytes == 8


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 2**32])
def test_numbers_are_read_as_they_were_written(value):
    assert list(iter_fields(message_field(20, number_field(3, value)))) == [(20, number_field(3, value))]
    assert list(iter_fields(number_field(3, value))) == [(3, value)]


@pytest.mark.parametrize("content", [b"\x08", b"\x0b", b"\x12\x05ab", b"\x09\x00", b"\x08" + b"\xff" * 11])
def test_what_is_no_message_is_refused(content):
    with pytest.raises(ValueError, match="its graph"):
        list(iter_fields(content))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("threads", [None, 3])
@pytest.mark.parametrize("on_gpu", [False, True])
def test_tensorflow_understands_what_a_session_is_told(precision, threads, on_gpu):
    config = ConfigProto.FromString(_config(precision, threads, on_gpu))
    assert config.gpu_options.allow_growth
    assert config.allow_soft_placement
    assert config.intra_op_parallelism_threads == config.inter_op_parallelism_threads == (threads or 0)
    assert config.use_per_session_threads == (threads is not None)
    rewriting = config.graph_options.rewrite_options
    # A session that places only what it runs rewrites nothing.
    assert config.graph_options.place_pruned_graph == (precision == "float32" and not on_gpu)
    if precision == "bfloat16" and not on_gpu:
        assert rewriting.auto_mixed_precision_onednn_bfloat16 == RewriterConfig.ON
        assert rewriting.meta_optimizer_iterations == RewriterConfig.ONE
        assert rewriting.memory_optimization == RewriterConfig.NO_MEM_OPT
        assert rewriting.disable_tfg_optimizer
        off = {field.name for field, value in rewriting.ListFields() if value == RewriterConfig.OFF}
        assert off == {
            "layout_optimizer",
            "constant_folding",
            "arithmetic_optimization",
            "dependency_optimization",
            "loop_optimization",
            "shape_optimization",
            "scoped_allocator_optimization",
            "pin_to_host_optimization",
            "implementation_selector",
            "common_subgraph_elimination",
        }
    else:
        assert not rewriting.ListFields()
