// The operators as Paddle registers them, with backward and double backward: SimAM, bias (both with a ReLU on request),
// convolution, depthwise convolution, max-pooling, batch normalisation and residual sums.

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "convolution.h"
#include "paddle/extension.h"
#include "planes.h"
#include "pooling.h"

namespace {

using Shape = std::vector<std::int64_t>;

Shape plane_shape(const Shape& x) { return {x[0], x[1]}; }

paddle::Tensor zeros_as(const paddle::Tensor& x) { return paddle::zeros(x.shape(), x.dtype(), x.place()); }

// Whether Paddle has no gradient of the output for backward: it calls it all the same when double backward has given one
// of the other outputs (zeros: what they add is in the gradient of x).
bool is_missing(const paddle::Tensor& grad_output) { return !grad_output.initialized(); }

std::int64_t plane_size(const paddle::Tensor& x) { return x.shape()[2] * x.shape()[3]; }

template <typename T>
Epilogue<T> epilogue(const paddle::Tensor& x, const paddle::Tensor* bias, bool relu) {
  return {bias ? bias->data<T>() : nullptr, x.shape()[1], relu};
}

template <typename T>
void forward(const paddle::Tensor& x, paddle::Tensor& y, paddle::Tensor& mean, paddle::Tensor& scale, T e_lambda,
             const Epilogue<T>& epilogue) {
  const std::int64_t size = plane_size(x);
  const T* from = x.data<T>();
  T *to = y.data<T>(), *means = mean.data<T>(), *scales = scale.data<T>();
  for_blocks<T>(mean.numel(), size, [=](std::int64_t first, const Block& block) {
    const std::int64_t at = first * size;
    const auto block_kernel = epilogue.bias ? forward_block<T, true> : forward_block<T, false>;
    block_kernel(from + at, to + at, means + first, scales + first, first, block, e_lambda, epilogue);
  });
}

// Returns what each plane's neurons add to the gradient of its bias.
template <typename T>
std::vector<T> backward(const paddle::Tensor& x, const paddle::Tensor& mean, const paddle::Tensor& scale,
                        const paddle::Tensor& g, paddle::Tensor& grad_input, const Epilogue<T>& epilogue) {
  const std::int64_t size = plane_size(x);
  const T *from = x.data<T>(), *grad_output = g.data<T>(), *means = mean.data<T>(), *scales = scale.data<T>();
  std::vector<T> per_plane(mean.numel());
  T *to = grad_input.data<T>(), *per_plane_sums = per_plane.data();
  for_blocks<T>(mean.numel(), size, [=](std::int64_t first, const Block& block) {
    const std::int64_t at = first * size;
    const auto block_kernel = epilogue.bias ? backward_block<T, true> : backward_block<T, false>;
    block_kernel(from + at, grad_output + at, to + at, means + first, scales + first, per_plane_sums + first, first,
                 block, epilogue);
  });
  return per_plane;
}

// lambda is a string attribute: a float one would round it, and Paddle 2.6 has no double ones.
std::vector<paddle::Tensor> weigh(const paddle::Tensor& x, const paddle::Tensor* bias, const std::string& e_lambda,
                                  bool relu) {
  auto y = paddle::empty(x.shape(), x.dtype(), x.place());
  auto mean = paddle::empty(plane_shape(x.shape()), x.dtype(), x.place());
  auto scale = paddle::empty(plane_shape(x.shape()), x.dtype(), x.place());
  PD_DISPATCH_FLOATING_TYPES(x.dtype(), "simam_forward", ([&] {
                               forward<data_t>(x, y, mean, scale, static_cast<data_t>(std::stod(e_lambda)),
                                               epilogue<data_t>(x, bias, relu));
                             }));
  return {y, mean, scale};
}

}  // namespace

extern "C" void simam_set_num_threads(int number) { num_threads = std::max(number, 1); }

// Addresses of cblas_sgemm, cblas_dgemm and MKL_Set_Num_Threads_Local.
extern "C" void simam_set_gemm(void* single, void* twice, void* threads) {
  gemm<float> = reinterpret_cast<Gemm<float>>(single);
  gemm<double> = reinterpret_cast<Gemm<double>>(twice);
  set_gemm_threads = reinterpret_cast<int (*)(int)>(threads);
}

std::vector<paddle::Tensor> simam_forward(const paddle::Tensor& x, const std::string& e_lambda, bool relu) {
  return weigh(x, nullptr, e_lambda, relu);
}

std::vector<paddle::Tensor> simam_backward(const paddle::Tensor& x, const paddle::Tensor& mean,
                                           const paddle::Tensor& scale, const paddle::Tensor& g, const std::string&,
                                           bool relu) {
  if (is_missing(g)) return {zeros_as(x)};
  auto grad_input = paddle::empty(x.shape(), x.dtype(), x.place());
  PD_DISPATCH_FLOATING_TYPES(x.dtype(), "simam_backward", ([&] {
                               backward<data_t>(x, mean, scale, g, grad_input, epilogue<data_t>(x, nullptr, relu));
                             }));
  return {grad_input};
}

std::vector<paddle::Tensor> simam_bias_forward(const paddle::Tensor& x, const paddle::Tensor& bias,
                                               const std::string& e_lambda, bool relu) {
  return weigh(x, &bias, e_lambda, relu);
}

std::vector<paddle::Tensor> simam_bias_backward(const paddle::Tensor& x, const paddle::Tensor& bias,
                                                const paddle::Tensor& mean, const paddle::Tensor& scale,
                                                const paddle::Tensor& g, const std::string&, bool relu) {
  if (is_missing(g)) return {zeros_as(x), zeros_as(bias)};
  auto grad_input = paddle::empty(x.shape(), x.dtype(), x.place());
  auto grad_bias = paddle::empty(bias.shape(), bias.dtype(), bias.place());
  PD_DISPATCH_FLOATING_TYPES(x.dtype(), "simam_bias_backward", ([&] {
                               const auto per_plane =
                                   backward<data_t>(x, mean, scale, g, grad_input, epilogue<data_t>(x, &bias, relu));
                               sum_channels<data_t>(per_plane, grad_bias.data<data_t>(), x.shape()[1]);
                             }));
  return {grad_input, grad_bias};
}

void add_in_place(paddle::Tensor& x, const paddle::Tensor& bias, bool relu) {
  PD_DISPATCH_FLOATING_TYPES(x.dtype(), "bias_forward", ([&] {
                               add_bias<data_t>(x.data<data_t>(), x.shape()[0] * x.shape()[1], plane_size(x),
                                                epilogue<data_t>(x, &bias, relu));
                             }));
}

// In place: the output is x. A convolution's backward does not need its own output.
void bias_forward(paddle::Tensor& x, const paddle::Tensor& bias) { add_in_place(x, bias, false); }

// The gradient of x is that of the result, in the same memory.
std::vector<paddle::Tensor> bias_backward(const paddle::Tensor& bias, const paddle::Tensor& g) {
  auto grad_bias = paddle::empty(bias.shape(), bias.dtype(), bias.place());
  PD_DISPATCH_FLOATING_TYPES(g.dtype(), "bias_backward", ([&] {
                               backward_bias<data_t>(nullptr, g.data<data_t>(), nullptr, grad_bias.data<data_t>(),
                                                     g.shape()[0] * g.shape()[1], g.shape()[1], plane_size(g));
                             }));
  paddle::Tensor grad_input;
  grad_input.set_impl(g.impl());
  return {grad_bias, grad_input};
}

void bias_relu_forward(paddle::Tensor& x, const paddle::Tensor& bias) { add_in_place(x, bias, true); }

std::vector<paddle::Tensor> bias_relu_backward(const paddle::Tensor& bias, const paddle::Tensor& y,
                                               const paddle::Tensor& g) {
  auto grad_input = paddle::empty(g.shape(), g.dtype(), g.place());
  auto grad_bias = paddle::empty(bias.shape(), bias.dtype(), bias.place());
  PD_DISPATCH_FLOATING_TYPES(g.dtype(), "bias_relu_backward", ([&] {
                               backward_bias<data_t>(y.data<data_t>(), g.data<data_t>(), grad_input.data<data_t>(),
                                                     grad_bias.data<data_t>(), g.shape()[0] * g.shape()[1],
                                                     g.shape()[1], plane_size(g));
                             }));
  return {grad_input, grad_bias};
}

Geometry geometry(const Shape& x, const Shape& weight, const std::vector<int>& stride,
                  const std::vector<int>& padding) {
  return {x[1], x[2], x[3], weight[0], weight[2], weight[3], stride[0], stride[1], padding[0], padding[1]};
}

std::vector<Shape> conv_shapes(const Shape& x, const Shape& weight, const std::vector<int>& stride,
                               const std::vector<int>& padding, bool) {
  const Geometry g = geometry(x, weight, stride, padding);
  return {{x[0], g.out_channels, g.out_h(), g.out_w()}};
}

std::vector<paddle::DataType> conv_dtypes(const paddle::DataType& x, const paddle::DataType&) { return {x}; }

std::vector<paddle::Tensor> conv_forward(const paddle::Tensor& x, const paddle::Tensor& weight,
                                         const std::vector<int>& stride, const std::vector<int>& padding, bool) {
  const Geometry g = geometry(x.shape(), weight.shape(), stride, padding);
  auto y = paddle::empty({x.shape()[0], g.out_channels, g.out_h(), g.out_w()}, x.dtype(), x.place());
  PD_DISPATCH_FLOATING_TYPES(x.dtype(), "conv_forward", ([&] {
                               convolve<data_t>(x.data<data_t>(), weight.data<data_t>(), y.data<data_t>(), x.shape()[0],
                                                g, num_threads);
                             }));
  return {y};
}

// Without x_gradient nobody needs grad_input, and a placeholder is returned.
std::vector<paddle::Tensor> conv_backward(const paddle::Tensor& x, const paddle::Tensor& weight,
                                          const paddle::Tensor& grad_output, const std::vector<int>& stride,
                                          const std::vector<int>& padding, bool x_gradient) {
  const Geometry g = geometry(x.shape(), weight.shape(), stride, padding);
  auto grad_input = paddle::empty(x_gradient ? x.shape() : Shape{1}, x.dtype(), x.place());
  auto grad_weight = paddle::empty(weight.shape(), x.dtype(), x.place());
  PD_DISPATCH_FLOATING_TYPES(
      x.dtype(), "conv_backward", ([&] {
        const data_t* grads = grad_output.data<data_t>();
        backward_weight<data_t>(x.data<data_t>(), grads, grad_weight.data<data_t>(), x.shape()[0], g, num_threads);
        if (x_gradient)
          backward_input<data_t>(grads, weight.data<data_t>(), grad_input.data<data_t>(), x.shape()[0], g, num_threads);
      }));
  return {grad_input, grad_weight};
}

// Of a plane of `size`, for the window that a pool moves over it.
Geometry window(const std::vector<int>& size, const std::vector<int>& kernel, const std::vector<int>& stride,
                const std::vector<int>& padding) {
  return {1, size[0], size[1], 1, kernel[0], kernel[1], stride[0], stride[1], padding[0], padding[1]};
}

std::vector<Shape> pool_shapes(const Shape& x, const std::vector<int>& size, const std::vector<int>& kernel,
                               const std::vector<int>& stride, const std::vector<int>& padding, bool) {
  const Geometry g = window(size, kernel, stride, padding);
  const Shape y{x[0], x[1], g.out_h(), g.out_w()};
  return {y, y};
}

std::vector<paddle::DataType> pool_dtypes(const paddle::DataType& x) { return {x, paddle::DataType::UINT8}; }

// The size of x and whether it is float32 are attributes, so that backward does not keep x.
std::vector<paddle::Tensor> pool_forward(const paddle::Tensor& x, const std::vector<int>& size,
                                         const std::vector<int>& kernel, const std::vector<int>& stride,
                                         const std::vector<int>& padding,
                                         bool single) {
  const Geometry g = window(size, kernel, stride, padding);
  const Shape shape = pool_shapes(x.shape(), size, kernel, stride, padding, single)[0];
  auto y = paddle::empty(shape, x.dtype(), x.place());
  auto taps = paddle::empty(shape, paddle::DataType::UINT8, x.place());
  PD_DISPATCH_FLOATING_TYPES(x.dtype(), "pool_forward", ([&] {
                               max_pool<data_t>(x.data<data_t>(), y.data<data_t>(), taps.data<Tap>(),
                                                shape[0] * shape[1], g, num_threads);
                             }));
  return {y, taps};
}

std::vector<paddle::Tensor> pool_backward(const paddle::Tensor& taps, const paddle::Tensor& grad_output,
                                          const std::vector<int>& size, const std::vector<int>& kernel,
                                          const std::vector<int>& stride, const std::vector<int>& padding,
                                          bool single) {
  const Geometry g = window(size, kernel, stride, padding);
  const Shape out_shape = taps.shape();
  const Shape shape{out_shape[0], out_shape[1], g.height, g.width};
  const auto dtype = single ? paddle::DataType::FLOAT32 : paddle::DataType::FLOAT64;
  if (is_missing(grad_output)) return {paddle::zeros(shape, dtype, taps.place())};
  auto grad_input = paddle::empty(shape, dtype, taps.place());
  PD_DISPATCH_FLOATING_TYPES(grad_output.dtype(), "pool_backward", ([&] {
                               max_pool_backward<data_t>(taps.data<Tap>(), grad_output.data<data_t>(),
                                                         grad_input.data<data_t>(), out_shape[0] * out_shape[1], g,
                                                         num_threads);
                             }));
  return {grad_input};
}

#include "second_ops.h"

std::vector<Shape> simam_shapes(const Shape& x, const std::string&, bool) {
  return {x, plane_shape(x), plane_shape(x)};
}

std::vector<paddle::DataType> simam_dtypes(const paddle::DataType& x) { return {x, x, x}; }

std::vector<Shape> simam_bias_shapes(const Shape& x, const Shape&, const std::string& e_lambda, bool relu) {
  return simam_shapes(x, e_lambda, relu);
}

std::vector<paddle::DataType> simam_bias_dtypes(const paddle::DataType& x, const paddle::DataType&) {
  return simam_dtypes(x);
}

// Paddle's name for an output of a double backward operator.
std::string second_of(const std::string& name) { return paddle::New(paddle::Grad(name)); }

PD_BUILD_OP(simam_fused)
    .Inputs({"X"})
    .Outputs({"Out", "Mean", "Scale"})
    .Attrs({"e_lambda: std::string", "relu: bool"})
    .SetKernelFn(PD_KERNEL(simam_forward))
    .SetInferShapeFn(PD_INFER_SHAPE(simam_shapes))
    .SetInferDtypeFn(PD_INFER_DTYPE(simam_dtypes));

PD_BUILD_GRAD_OP(simam_fused)
    .Inputs({"X", "Mean", "Scale", paddle::Grad("Out")})
    .Outputs({paddle::Grad("X")})
    .Attrs({"e_lambda: std::string", "relu: bool"})
    .SetKernelFn(PD_KERNEL(simam_backward));

PD_BUILD_DOUBLE_GRAD_OP(simam_fused)
    .Inputs({"X", "Mean", paddle::Grad("Out"), paddle::Grad(paddle::Grad("X"))})
    .Outputs({second_of("X"), second_of("Mean"), second_of("Scale"), paddle::Grad(paddle::Grad("Out"))})
    .Attrs({"e_lambda: std::string", "relu: bool"})
    .SetKernelFn(PD_KERNEL(simam_backward_again));

PD_BUILD_OP(simam_bias_fused)
    .Inputs({"X", "Bias"})
    .Outputs({"Out", "Mean", "Scale"})
    .Attrs({"e_lambda: std::string", "relu: bool"})
    .SetKernelFn(PD_KERNEL(simam_bias_forward))
    .SetInferShapeFn(PD_INFER_SHAPE(simam_bias_shapes))
    .SetInferDtypeFn(PD_INFER_DTYPE(simam_bias_dtypes));

PD_BUILD_GRAD_OP(simam_bias_fused)
    .Inputs({"X", "Bias", "Mean", "Scale", paddle::Grad("Out")})
    .Outputs({paddle::Grad("X"), paddle::Grad("Bias")})
    .Attrs({"e_lambda: std::string", "relu: bool"})
    .SetKernelFn(PD_KERNEL(simam_bias_backward));

PD_BUILD_DOUBLE_GRAD_OP(simam_bias_fused)
    .Inputs({"X", "Bias", "Mean", paddle::Grad("Out"), paddle::Grad(paddle::Grad("X")),
             paddle::Grad(paddle::Grad("Bias"))})
    .Outputs({second_of("X"), second_of("Bias"), second_of("Mean"), second_of("Scale"),
              paddle::Grad(paddle::Grad("Out"))})
    .Attrs({"e_lambda: std::string", "relu: bool"})
    .SetKernelFn(PD_KERNEL(simam_bias_backward_again));

PD_BUILD_OP(bias_fused)
    .Inputs({"X", "Bias"})
    .Outputs({"Out"})
    .SetInplaceMap({{"X", "Out"}})
    .SetKernelFn(PD_KERNEL(bias_forward));

PD_BUILD_GRAD_OP(bias_fused)
    .Inputs({"Bias", paddle::Grad("Out")})
    .Outputs({paddle::Grad("Bias"), paddle::Grad("X")})
    .SetKernelFn(PD_KERNEL(bias_backward));

PD_BUILD_DOUBLE_GRAD_OP(bias_fused)
    .Inputs({"Bias", paddle::Grad("Out"), paddle::Grad(paddle::Grad("X")), paddle::Grad(paddle::Grad("Bias"))})
    .Outputs({second_of("Bias"), paddle::Grad(paddle::Grad("Out"))})
    .SetKernelFn(PD_KERNEL(bias_backward_again));

PD_BUILD_OP(bias_relu_fused)
    .Inputs({"X", "Bias"})
    .Outputs({"Out"})
    .SetInplaceMap({{"X", "Out"}})
    .SetKernelFn(PD_KERNEL(bias_relu_forward));

PD_BUILD_GRAD_OP(bias_relu_fused)
    .Inputs({"Bias", "Out", paddle::Grad("Out")})
    .Outputs({paddle::Grad("X"), paddle::Grad("Bias")})
    .SetKernelFn(PD_KERNEL(bias_relu_backward));

PD_BUILD_DOUBLE_GRAD_OP(bias_relu_fused)
    .Inputs({"Bias", "Out", paddle::Grad("Out"), paddle::Grad(paddle::Grad("X")), paddle::Grad(paddle::Grad("Bias"))})
    .Outputs({second_of("Bias"), second_of("Out"), paddle::Grad(paddle::Grad("Out"))})
    .SetKernelFn(PD_KERNEL(bias_relu_backward_again));

PD_BUILD_OP(conv_fused)
    .Inputs({"X", "Kernels"})
    .Outputs({"Out"})
    .Attrs({"stride: std::vector<int>", "padding: std::vector<int>", "x_gradient: bool"})
    .SetKernelFn(PD_KERNEL(conv_forward))
    .SetInferShapeFn(PD_INFER_SHAPE(conv_shapes))
    .SetInferDtypeFn(PD_INFER_DTYPE(conv_dtypes));

PD_BUILD_GRAD_OP(conv_fused)
    .Inputs({"X", "Kernels", paddle::Grad("Out")})
    .Outputs({paddle::Grad("X"), paddle::Grad("Kernels")})
    .Attrs({"stride: std::vector<int>", "padding: std::vector<int>", "x_gradient: bool"})
    .SetKernelFn(PD_KERNEL(conv_backward));

PD_BUILD_DOUBLE_GRAD_OP(conv_fused)
    .Inputs({"X", "Kernels", paddle::Grad("Out"), paddle::Grad(paddle::Grad("X")),
             paddle::Grad(paddle::Grad("Kernels"))})
    .Outputs({second_of("X"), second_of("Kernels"), paddle::Grad(paddle::Grad("Out"))})
    .Attrs({"stride: std::vector<int>", "padding: std::vector<int>", "x_gradient: bool"})
    .SetKernelFn(PD_KERNEL(conv_backward_again));

PD_BUILD_OP(max_pool_fused)
    .Inputs({"X"})
    .Outputs({"Out", "Taps"})
    .Attrs({"size: std::vector<int>", "kernel: std::vector<int>", "stride: std::vector<int>",
            "padding: std::vector<int>", "single: bool"})
    .SetKernelFn(PD_KERNEL(pool_forward))
    .SetInferShapeFn(PD_INFER_SHAPE(pool_shapes))
    .SetInferDtypeFn(PD_INFER_DTYPE(pool_dtypes));

PD_BUILD_GRAD_OP(max_pool_fused)
    .Inputs({"Taps", paddle::Grad("Out")})
    .Outputs({paddle::Grad("X")})
    .Attrs({"size: std::vector<int>", "kernel: std::vector<int>", "stride: std::vector<int>",
            "padding: std::vector<int>", "single: bool"})
    .SetKernelFn(PD_KERNEL(pool_backward));

PD_BUILD_DOUBLE_GRAD_OP(max_pool_fused)
    .Inputs({"Taps", paddle::Grad("Out"), paddle::Grad(paddle::Grad("X"))})
    .Outputs({second_of("Taps"), paddle::Grad(paddle::Grad("Out"))})
    .Attrs({"size: std::vector<int>", "kernel: std::vector<int>", "stride: std::vector<int>",
            "padding: std::vector<int>", "single: bool"})
    .SetKernelFn(PD_KERNEL(pool_backward_again));

#include "depthwise_ops.h"
#include "norm_ops.h"
#include "sum_ops.h"
