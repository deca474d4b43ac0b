// The operators that Paddle gets, forward, backward and backward again: SimAM, the bias of a convolution, both with a ReLU if asked,
// convolution itself, and max-pooling.

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

std::int64_t plane_size(const paddle::Tensor& x) { return x.shape()[2] * x.shape()[3]; }

template <typename T>
Around<T> around(const paddle::Tensor& x, const paddle::Tensor* bias, bool relu) {
  return {bias ? bias->data<T>() : nullptr, x.shape()[1], relu};
}

template <typename T>
void forward(const paddle::Tensor& x, paddle::Tensor& y, paddle::Tensor& mean, paddle::Tensor& scale, T e_lambda,
             const Around<T>& around) {
  const std::int64_t size = plane_size(x);
  const T* from = x.data<T>();
  T *to = y.data<T>(), *means = mean.data<T>(), *scales = scale.data<T>();
  for_blocks<T>(mean.numel(), size, [=](std::int64_t first, const Block& block) {
    const std::int64_t at = first * size;
    const auto of_block = around.bias ? forward_block<T, true> : forward_block<T, false>;
    of_block(from + at, to + at, means + first, scales + first, first, block, e_lambda, around);
  });
}

// Returns what each plane's neurons add to the gradient of its bias.
template <typename T>
std::vector<T> backward(const paddle::Tensor& x, const paddle::Tensor& mean, const paddle::Tensor& scale,
                        const paddle::Tensor& g, paddle::Tensor& gradient, const Around<T>& around) {
  const std::int64_t size = plane_size(x);
  const T *from = x.data<T>(), *upper = g.data<T>(), *means = mean.data<T>(), *scales = scale.data<T>();
  std::vector<T> of_planes(mean.numel());
  T *to = gradient.data<T>(), *of_plane = of_planes.data();
  for_blocks<T>(mean.numel(), size, [=](std::int64_t first, const Block& block) {
    const std::int64_t at = first * size;
    const auto of_block = around.bias ? backward_block<T, true> : backward_block<T, false>;
    of_block(from + at, upper + at, to + at, means + first, scales + first, of_plane + first, first, block, around);
  });
  return of_planes;
}

// lambda comes as text: a float attribute would round it, and Paddle 2.6 knows no double ones.
std::vector<paddle::Tensor> weigh(const paddle::Tensor& x, const paddle::Tensor* bias, const std::string& e_lambda,
                                  bool relu) {
  auto y = paddle::empty(x.shape(), x.dtype(), x.place());
  auto mean = paddle::empty(plane_shape(x.shape()), x.dtype(), x.place());
  auto scale = paddle::empty(plane_shape(x.shape()), x.dtype(), x.place());
  PD_DISPATCH_FLOATING_TYPES(x.dtype(), "simam_forward", ([&] {
                               forward<data_t>(x, y, mean, scale, static_cast<data_t>(std::stod(e_lambda)),
                                               around<data_t>(x, bias, relu));
                             }));
  return {y, mean, scale};
}

}  // namespace

extern "C" void simam_set_num_threads(int number) { num_threads = std::max(number, 1); }

// Where cblas_sgemm, cblas_dgemm and MKL_Set_Num_Threads_Local are.
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
  auto gradient = paddle::empty(x.shape(), x.dtype(), x.place());
  PD_DISPATCH_FLOATING_TYPES(x.dtype(), "simam_backward", ([&] {
                               backward<data_t>(x, mean, scale, g, gradient, around<data_t>(x, nullptr, relu));
                             }));
  return {gradient};
}

std::vector<paddle::Tensor> simam_bias_forward(const paddle::Tensor& x, const paddle::Tensor& bias,
                                               const std::string& e_lambda, bool relu) {
  return weigh(x, &bias, e_lambda, relu);
}

std::vector<paddle::Tensor> simam_bias_backward(const paddle::Tensor& x, const paddle::Tensor& bias,
                                                const paddle::Tensor& mean, const paddle::Tensor& scale,
                                                const paddle::Tensor& g, const std::string&, bool relu) {
  auto gradient = paddle::empty(x.shape(), x.dtype(), x.place());
  auto of_bias = paddle::empty(bias.shape(), bias.dtype(), bias.place());
  PD_DISPATCH_FLOATING_TYPES(x.dtype(), "simam_bias_backward", ([&] {
                               const auto of_planes = backward<data_t>(x, mean, scale, g, gradient,
                                                                       around<data_t>(x, &bias, relu));
                               sum_channels<data_t>(of_planes, of_bias.data<data_t>(), x.shape()[1]);
                             }));
  return {gradient, of_bias};
}

void add_in_place(paddle::Tensor& x, const paddle::Tensor& bias, bool relu) {
  PD_DISPATCH_FLOATING_TYPES(x.dtype(), "bias_forward", ([&] {
                               add_bias<data_t>(x.data<data_t>(), x.shape()[0] * x.shape()[1], plane_size(x),
                                                around<data_t>(x, &bias, relu));
                             }));
}

// In place: what comes out is x. A convolution does not need its own output to go backward.
void bias_forward(paddle::Tensor& x, const paddle::Tensor& bias) { add_in_place(x, bias, false); }

// The gradient of x is that of the result, in the same memory.
std::vector<paddle::Tensor> bias_backward(const paddle::Tensor& bias, const paddle::Tensor& g) {
  auto of_bias = paddle::empty(bias.shape(), bias.dtype(), bias.place());
  PD_DISPATCH_FLOATING_TYPES(g.dtype(), "bias_backward", ([&] {
                               bias_gradient<data_t>(nullptr, g.data<data_t>(), nullptr, of_bias.data<data_t>(),
                                                     g.shape()[0] * g.shape()[1], g.shape()[1], plane_size(g));
                             }));
  paddle::Tensor of_x;
  of_x.set_impl(g.impl());
  return {of_bias, of_x};
}

void bias_relu_forward(paddle::Tensor& x, const paddle::Tensor& bias) { add_in_place(x, bias, true); }

std::vector<paddle::Tensor> bias_relu_backward(const paddle::Tensor& bias, const paddle::Tensor& y,
                                               const paddle::Tensor& g) {
  auto gradient = paddle::empty(g.shape(), g.dtype(), g.place());
  auto of_bias = paddle::empty(bias.shape(), bias.dtype(), bias.place());
  PD_DISPATCH_FLOATING_TYPES(
      g.dtype(), "bias_relu_backward", ([&] {
        bias_gradient<data_t>(y.data<data_t>(), g.data<data_t>(), gradient.data<data_t>(), of_bias.data<data_t>(),
                              g.shape()[0] * g.shape()[1], g.shape()[1], plane_size(g));
      }));
  return {gradient, of_bias};
}

Geometry geometry(const Shape& x, const Shape& kernels, const std::vector<int>& stride,
                  const std::vector<int>& padding) {
  return {x[1], x[2], x[3], kernels[0], kernels[2], kernels[3], stride[0], stride[1], padding[0], padding[1]};
}

std::vector<Shape> conv_shapes(const Shape& x, const Shape& kernels, const std::vector<int>& stride,
                               const std::vector<int>& padding, bool) {
  const Geometry g = geometry(x, kernels, stride, padding);
  return {{x[0], g.outputs, g.out_h(), g.out_w()}};
}

std::vector<paddle::DataType> conv_dtypes(const paddle::DataType& x, const paddle::DataType&) { return {x}; }

std::vector<paddle::Tensor> conv_forward(const paddle::Tensor& x, const paddle::Tensor& kernels,
                                         const std::vector<int>& stride, const std::vector<int>& padding, bool) {
  const Geometry g = geometry(x.shape(), kernels.shape(), stride, padding);
  auto y = paddle::empty({x.shape()[0], g.outputs, g.out_h(), g.out_w()}, x.dtype(), x.place());
  PD_DISPATCH_FLOATING_TYPES(x.dtype(), "conv_forward", ([&] {
                               convolve<data_t>(x.data<data_t>(), kernels.data<data_t>(), y.data<data_t>(),
                                                x.shape()[0], g, num_threads);
                             }));
  return {y};
}

// Without x_gradient nobody needs that of x, and something stands in its place.
std::vector<paddle::Tensor> conv_backward(const paddle::Tensor& x, const paddle::Tensor& kernels,
                                          const paddle::Tensor& upper, const std::vector<int>& stride,
                                          const std::vector<int>& padding, bool x_gradient) {
  const Geometry g = geometry(x.shape(), kernels.shape(), stride, padding);
  auto of_x = paddle::empty(x_gradient ? x.shape() : Shape{1}, x.dtype(), x.place());
  auto of_kernels = paddle::empty(kernels.shape(), x.dtype(), x.place());
  PD_DISPATCH_FLOATING_TYPES(x.dtype(), "conv_backward", ([&] {
                               const data_t* g_y = upper.data<data_t>();
                               kernel_gradient<data_t>(x.data<data_t>(), g_y, of_kernels.data<data_t>(), x.shape()[0],
                                                       g, num_threads);
                               if (x_gradient)
                                 input_gradient<data_t>(g_y, kernels.data<data_t>(), of_x.data<data_t>(),
                                                        x.shape()[0], g, num_threads);
                             }));
  return {of_x, of_kernels};
}

// Of a plane of `size`, for the window that a pool moves over it.
Geometry window(const std::vector<int>& size, const std::vector<int>& kernel, const std::vector<int>& stride,
                const std::vector<int>& padding) {
  return {1, size[0], size[1], 1, kernel[0], kernel[1], stride[0], stride[1], padding[0], padding[1]};
}

std::vector<Shape> pool_shapes(const Shape& x, const std::vector<int>& size, const std::vector<int>& kernel,
                               const std::vector<int>& stride, const std::vector<int>& padding) {
  const Geometry g = window(size, kernel, stride, padding);
  const Shape y{x[0], x[1], g.out_h(), g.out_w()};
  return {y, y};
}

std::vector<paddle::DataType> pool_dtypes(const paddle::DataType& x) { return {x, paddle::DataType::UINT8}; }

// The size of x is said apart from it, so that backward does not keep x.
std::vector<paddle::Tensor> pool_forward(const paddle::Tensor& x, const std::vector<int>& size,
                                         const std::vector<int>& kernel, const std::vector<int>& stride,
                                         const std::vector<int>& padding) {
  const Geometry g = window(size, kernel, stride, padding);
  const Shape shape = pool_shapes(x.shape(), size, kernel, stride, padding)[0];
  auto y = paddle::empty(shape, x.dtype(), x.place());
  auto taps = paddle::empty(shape, paddle::DataType::UINT8, x.place());
  PD_DISPATCH_FLOATING_TYPES(x.dtype(), "pool_forward", ([&] {
                               max_pool<data_t>(x.data<data_t>(), y.data<data_t>(), taps.data<Tap>(),
                                                shape[0] * shape[1], g, num_threads);
                             }));
  return {y, taps};
}

std::vector<paddle::Tensor> pool_backward(const paddle::Tensor& taps, const paddle::Tensor& g_y,
                                          const std::vector<int>& size, const std::vector<int>& kernel,
                                          const std::vector<int>& stride, const std::vector<int>& padding) {
  const Geometry g = window(size, kernel, stride, padding);
  const Shape of_y = taps.shape();
  auto gradient = paddle::empty({of_y[0], of_y[1], g.height, g.width}, g_y.dtype(), g_y.place());
  PD_DISPATCH_FLOATING_TYPES(g_y.dtype(), "pool_backward", ([&] {
                               max_pool_gradient<data_t>(taps.data<Tap>(), g_y.data<data_t>(),
                                                         gradient.data<data_t>(), of_y[0] * of_y[1], g, num_threads);
                             }));
  return {gradient};
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

// The name that an operator's second gradient gives to what it computes for an input of the first.
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
    .Inputs({"X", "Bias", "Mean", paddle::Grad("Out"), paddle::Grad(paddle::Grad("X")), paddle::Grad(paddle::Grad("Bias"))})
    .Outputs({second_of("X"), second_of("Bias"), second_of("Mean"), second_of("Scale"), paddle::Grad(paddle::Grad("Out"))})
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
    .Inputs({"X", "Kernels", paddle::Grad("Out"), paddle::Grad(paddle::Grad("X")), paddle::Grad(paddle::Grad("Kernels"))})
    .Outputs({second_of("X"), second_of("Kernels"), paddle::Grad(paddle::Grad("Out"))})
    .Attrs({"stride: std::vector<int>", "padding: std::vector<int>", "x_gradient: bool"})
    .SetKernelFn(PD_KERNEL(conv_backward_again));

PD_BUILD_OP(max_pool_fused)
    .Inputs({"X"})
    .Outputs({"Out", "Taps"})
    .Attrs({"size: std::vector<int>", "kernel: std::vector<int>", "stride: std::vector<int>",
            "padding: std::vector<int>"})
    .SetKernelFn(PD_KERNEL(pool_forward))
    .SetInferShapeFn(PD_INFER_SHAPE(pool_shapes))
    .SetInferDtypeFn(PD_INFER_DTYPE(pool_dtypes));

PD_BUILD_GRAD_OP(max_pool_fused)
    .Inputs({"Taps", paddle::Grad("Out")})
    .Outputs({paddle::Grad("X")})
    .Attrs({"size: std::vector<int>", "kernel: std::vector<int>", "stride: std::vector<int>",
            "padding: std::vector<int>"})
    .SetKernelFn(PD_KERNEL(pool_backward));

PD_BUILD_DOUBLE_GRAD_OP(max_pool_fused)
    .Inputs({"Taps", paddle::Grad("Out"), paddle::Grad(paddle::Grad("X"))})
    .Outputs({second_of("Taps"), paddle::Grad(paddle::Grad("Out"))})
    .Attrs({"size: std::vector<int>", "kernel: std::vector<int>", "stride: std::vector<int>",
            "padding: std::vector<int>"})
    .SetKernelFn(PD_KERNEL(pool_backward_again));
