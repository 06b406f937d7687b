"""Fake quantisers: integers as ONNX Runtime's, gradients as in the LSQ paper."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import nn

from mmcompress.arithmetic.quantizers import ActivationQuantizer, WeightQuantizer
from mmcompress.errors import CompressionError
from mmcompress.policy import FLOAT


def activation(bits=8, scale=0.1, zero_point=0.0, symmetric=False):
    quantizer = ActivationQuantizer(symmetric)
    quantizer.switch(bits)
    quantizer.assign(scale, zero_point)
    return quantizer


def weight(bits, scale, axis=0):
    quantizer = WeightQuantizer(axis)
    quantizer.switch(bits, len(scale))
    quantizer.assign(torch.tensor(scale))
    return quantizer


finite = st.floats(-1e4, 1e4, width=32)
tensors = arrays(np.float32, st.integers(1, 40), elements=finite)
scales = st.floats(2.0 ** -13, 1024.0, width=32)
bit_widths = st.integers(2, 8)


@given(tensors, scales, st.integers(0, 255), bit_widths)
@settings(deadline=None)
def test_activation_is_a_projection_onto_the_grid(x, scale, zero, bits):
    quantizer = activation(bits, scale, zero)
    x = torch.from_numpy(x)
    with torch.no_grad():
        once = quantizer(x)
        integers = quantizer.integers(x)
        zero = quantizer.rounded_zero_point()
        assert 0 <= int(zero) <= 2 ** bits - 1
        assert int(integers.max()) <= 2 ** bits - 1
        # The fake-quantised value is the integer, dequantised, to the last bit.
        assert torch.equal(once, (integers.float() - zero) * quantizer.scale)
        assert torch.equal(quantizer(once), once)
        # Zero, which pads every image, is exact.
        assert quantizer(torch.zeros(1)).item() == 0
        low, high = quantizer.bounds()
        inside = (x / scale > low) & (x / scale < high)
        assert ((once - x).abs() <= scale * 0.5001)[inside].all()


@given(arrays(np.float32, (3, 5), elements=finite), bit_widths,
       st.lists(scales, min_size=3, max_size=3),
       st.lists(st.sampled_from([-4.0, -1.0, -0.25, 0.5, 1.0, 2.0]),
                min_size=3, max_size=3))
@settings(deadline=None)
def test_folding_a_norm_commutes_with_the_weight_quantiser(w, bits, scale, gamma):
    # Factors are powers of two, so that no product is rounded.
    w, factor = torch.from_numpy(w), torch.tensor(gamma)
    plain, folded = weight(bits, scale), weight(bits, scale)
    folded.assign(plain.scale.detach() * factor.abs())
    with torch.no_grad():
        expected = plain(w) * factor[:, None]
        assert torch.equal(folded(w * factor[:, None]), expected)
        signed = plain.integers(w) * factor.sign()[:, None].to(torch.int8)
        assert torch.equal(folded.integers(w * factor[:, None]), signed)


@given(arrays(np.float32, st.integers(1, 60), elements=finite), scales,
       st.integers(0, 255))
@settings(deadline=None, max_examples=25)
def test_activation_integers_equal_onnx_runtime(x, scale, zero):
    reference = onnx_quantise(x, np.float32(scale), np.uint8(zero))
    quantizer = activation(8, scale, zero)
    with torch.no_grad():
        np.testing.assert_array_equal(
            quantizer.integers(torch.from_numpy(x)).numpy(), reference[0])
        np.testing.assert_array_equal(
            quantizer(torch.from_numpy(x)).numpy(), reference[1])


def test_ties_go_to_even_as_in_onnx_runtime():
    x = np.arange(-6, 7, dtype=np.float32) / 2  # -3, -2.5, ... 3
    expected = np.array([-3, -2, -2, -2, -1, 0, 0, 0, 1, 2, 2, 2, 3]) + 10
    integers, _ = onnx_quantise(x, np.float32(1), np.uint8(10))
    np.testing.assert_array_equal(integers, expected)
    quantizer = activation(8, 1.0, 10)
    np.testing.assert_array_equal(quantizer.integers(torch.from_numpy(x)), expected)


def test_weight_integers_equal_onnx_runtime():
    w = np.random.default_rng(0).normal(size=(16, 50)).astype(np.float32)
    scale = np.abs(w).max(1) / 127
    integers, values = onnx_quantise(w, scale, np.zeros(16, np.int8), axis=0)
    quantizer = weight(8, scale.tolist())
    with torch.no_grad():
        np.testing.assert_array_equal(
            quantizer.integers(torch.from_numpy(w)).numpy(), integers)
        np.testing.assert_array_equal(
            quantizer(torch.from_numpy(w)).numpy(), values)


def onnx_quantise(x, scale, zero, axis=1):
    """QuantizeLinear and DequantizeLinear of ONNX Runtime."""
    onnx = pytest.importorskip('onnx')
    runtime = pytest.importorskip('onnxruntime')
    from onnx import TensorProto, helper, numpy_helper

    kind = TensorProto.UINT8 if zero.dtype == np.uint8 else TensorProto.INT8
    graph = helper.make_graph(
        [helper.make_node('QuantizeLinear', ['x', 's', 'z'], ['q'], axis=axis),
         helper.make_node('DequantizeLinear', ['q', 's', 'z'], ['y'], axis=axis)],
        'g', [helper.make_tensor_value_info('x', TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info('q', kind, x.shape),
         helper.make_tensor_value_info('y', TensorProto.FLOAT, x.shape)],
        [numpy_helper.from_array(np.asarray(scale), 's'),
         numpy_helper.from_array(np.asarray(zero), 'z')])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 21)])
    model.ir_version = 10
    onnx.checker.check_model(model)
    session = runtime.InferenceSession(
        model.SerializeToString(), providers=['CPUExecutionProvider'])
    return session.run(None, {'x': x})


def test_gradients_of_the_activation_by_hand():
    # Scale 0.5, zero point 2, 2 bits: integers 0..3, without the zero point -2..1.
    # x      -3     -0.4   0.3    0.9
    # v=x/s  -6     -0.8   0.6    1.8
    # q      -2     -1     1      1
    # inside no     yes    yes    no (round(1.8) = 2 > 1)
    # dy/ds  q=-2   q-v=-0.2  0.4  q=1     -> with dL/dy = 1,2,3,4:
    #                                         -2 - 0.4 + 1.2 + 4 = 2.8
    # dy/dz  -s=-.5  0     0      -.5     -> -0.5 (1 + 4) = -2.5
    # Factor: one image of 4 values, Qp = 3: 1 / sqrt(12).
    quantizer = activation(2, 0.5, 2.0)
    x = torch.tensor([[-3.0, -0.4, 0.3, 0.9]], requires_grad=True)
    y = quantizer(x)
    assert torch.equal(y, torch.tensor([[-1.0, -0.5, 0.5, 0.5]]))
    y.backward(torch.tensor([[1.0, 2.0, 3.0, 4.0]]))
    assert torch.equal(x.grad, torch.tensor([[0.0, 2.0, 3.0, 0.0]]))
    factor = 12 ** -0.5
    torch.testing.assert_close(quantizer.scale.grad, torch.tensor([2.8]) * factor)
    torch.testing.assert_close(
        quantizer.zero_point.grad, torch.tensor([-2.5]) * factor)


def test_gradients_of_the_weight_by_hand():
    # 3 bits: -3..3. Row 0, scale 1:  w = 0.4, -1.7, 5 -> q = 0, -2, 3;
    # slopes q-v = -0.4, -0.3 and q = 3.  Row 1, scale 2: w = 3, -9, 1 -> v = 1.5,
    # -4.5, 0.5 -> q = 2, -3, 0; slopes 0.5, -3, -0.5. Factor 1 / sqrt(3 * 3).
    quantizer = weight(3, [1.0, 2.0])
    w = torch.tensor([[0.4, -1.7, 5.0], [3.0, -9.0, 1.0]], requires_grad=True)
    quantizer(w).sum().backward()
    assert torch.equal(w.grad, torch.tensor([[1.0, 1, 0], [1, 0, 1]]))
    torch.testing.assert_close(
        quantizer.scale.grad, torch.tensor([2.3, -3.0]) / 3)


def test_gradients_equal_aten():
    x = torch.randn(1, 500, generator=torch.Generator().manual_seed(0))
    quantizer = activation(4, 0.2, 6.0)
    ours = x.clone().requires_grad_()
    quantizer(ours).square().sum().backward()
    theirs = x.clone().requires_grad_()
    scale = torch.tensor([0.2], requires_grad=True)
    zero = torch.tensor([6.0], requires_grad=True)
    torch._fake_quantize_learnable_per_tensor_affine(
        theirs, scale, zero, 0, 15, (500 * 15) ** -0.5).square().sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)
    torch.testing.assert_close(quantizer.scale.grad, scale.grad)
    torch.testing.assert_close(quantizer.zero_point.grad, zero.grad)


def test_scales_are_remembered_per_bit_width():
    quantizer = activation(8, 0.1, 3.0)
    parameter = quantizer.scale
    quantizer.switch(4)
    assert not quantizer.calibrated
    quantizer.assign(0.7, 1.0)
    quantizer.switch(8)
    assert quantizer.calibrated and quantizer.scale is parameter
    assert quantizer.scale.item() == pytest.approx(0.1)
    assert quantizer.zero_point.item() == 3
    quantizer.switch(4)
    assert quantizer.scale.item() == pytest.approx(0.7)
    quantizer.switch(FLOAT)
    assert not quantizer.state_dict() and not list(quantizer.parameters())
    quantizer.switch(8)
    assert quantizer.scale.item() == pytest.approx(0.1)


def test_uncalibrated_is_an_error_until_loaded():
    quantizer = ActivationQuantizer()
    quantizer.switch(8)
    with pytest.raises(CompressionError, match='Calibrate it'):
        quantizer(torch.ones(1))
    quantizer.load_state_dict(activation(8, 0.25, 3.0).state_dict())
    assert quantizer(torch.full((1, 1), 0.3)).item() == 0.25


def test_bits_that_do_not_exist():
    with pytest.raises(CompressionError, match='choose 2 to 8, or 32'):
        WeightQuantizer().switch(1, 3)


def test_symmetric_keeps_its_zero_point_while_training():
    names = {n for n, p in activation(symmetric=True).named_parameters()
             if p.requires_grad}
    assert names == {'scale'}


def test_training_finds_a_good_step():
    # A step of 0.05 clips a standard normal at 0.35, which loses most of its power;
    # the best uniform 15-level quantiser loses about 1.3 % of it.
    x = torch.randn(1, 4000, generator=torch.Generator().manual_seed(0))
    quantizer = weight(4, [0.05])
    optimiser = torch.optim.SGD([quantizer.scale], lr=1.0)
    for _ in range(300):
        optimiser.zero_grad()
        loss = nn.functional.mse_loss(quantizer(x), x)
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.02


def test_a_scale_that_training_carried_across_zero():
    quantizer = WeightQuantizer()
    quantizer.switch(8, 2)
    quantizer.assign(torch.tensor([0.5, -0.5]))
    weight = torch.tensor([[1.2, -3.0], [1.2, -3.0]])
    with torch.no_grad():
        tested = quantizer(weight)
    # Steps of 0.5 both, and the same with gradients.
    assert tested.tolist() == [[1.0, -3.0]] * 2
    trained = quantizer(weight)
    assert torch.equal(trained.detach(), tested)
    assert quantizer.integers(weight).tolist() == [[2, -6]] * 2
    trained.sum().backward()
    # Both steps grow or shrink alike: the gradients of the scales have opposite signs.
    assert quantizer.scale.grad[0] == -quantizer.scale.grad[1] != 0
