// Depthwise convolution as Paddle calls it (depthwise.h computes it). Part of simam_ops.cc.

#pragma once

#include <algorithm>
#include <functional>
#include <vector>

#include "depthwise.h"

// Of one channel; weight: [channels, 1, kernel_h, kernel_w].
Geometry channel_geometry(const Shape& x, const Shape& weight, const std::vector<int>& stride,
                          const std::vector<int>& padding) {
  return {1, x[2], x[3], 1, weight[2], weight[3], stride[0], stride[1], padding[0], padding[1]};
}

std::vector<paddle::Tensor> depthwise_forward(const paddle::Tensor& x, const paddle::Tensor& weight,
                                              const std::vector<int>& stride, const std::vector<int>& padding,
                                              bool x_gradient) {
  const Geometry g = channel_geometry(x.shape(), weight.shape(), stride, padding);
  auto y = paddle::empty(conv_shapes(x.shape(), weight.shape(), stride, padding, x_gradient)[0], x.dtype(), x.place());
  PD_DISPATCH_FLOATING_TYPES(x.dtype(), "depthwise_forward", ([&] {
                               convolve_depthwise<data_t>(x.data<data_t>(), weight.data<data_t>(), y.data<data_t>(),
                                                          x.shape()[0], x.shape()[1], g, num_threads);
                             }));
  return {y};
}

// Without x_gradient nobody needs grad_input, and a placeholder is returned.
std::vector<paddle::Tensor> depthwise_backward(const paddle::Tensor& x, const paddle::Tensor& weight,
                                               const paddle::Tensor& grad_output, const std::vector<int>& stride,
                                               const std::vector<int>& padding, bool x_gradient) {
  const Geometry g = channel_geometry(x.shape(), weight.shape(), stride, padding);
  auto grad_input = paddle::empty(x_gradient ? x.shape() : Shape{1}, x.dtype(), x.place());
  auto grad_weight = paddle::empty(weight.shape(), x.dtype(), x.place());
  PD_DISPATCH_FLOATING_TYPES(
      x.dtype(), "depthwise_backward", ([&] {
        backward_depthwise<data_t>(x.data<data_t>(), weight.data<data_t>(), grad_output.data<data_t>(),
                                   x_gradient ? grad_input.data<data_t>() : nullptr, grad_weight.data<data_t>(),
                                   x.shape()[0], x.shape()[1], g, num_threads);
      }));
  return {grad_input, grad_weight};
}

// Linear in x and in weight, as `conv_backward_again` is.
std::vector<paddle::Tensor> depthwise_backward_again(const paddle::Tensor& x, const paddle::Tensor& weight,
                                                     const paddle::Tensor& grad_output, const paddle::Tensor& ggx,
                                                     const paddle::Tensor& ggw, const std::vector<int>& stride,
                                                     const std::vector<int>& padding, bool x_gradient) {
  const Geometry g = channel_geometry(x.shape(), weight.shape(), stride, padding);
  auto grad_x = paddle::zeros(x_gradient ? x.shape() : Shape{1}, x.dtype(), x.place());
  auto grad_weight = zeros_as(weight), grad_grad_output = zeros_as(grad_output);
  PD_DISPATCH_FLOATING_TYPES(
      x.dtype(), "depthwise_backward_again", ([&] {
        const std::int64_t images = x.shape()[0], channels = x.shape()[1];
        const data_t *xs = x.data<data_t>(), *ks = weight.data<data_t>(), *gs = grad_output.data<data_t>();
        const data_t *ggxs = x_gradient ? numbers<data_t>(ggx) : nullptr, *ggws = numbers<data_t>(ggw);
        data_t *xs_out = grad_x.data<data_t>(), *ks_out = grad_weight.data<data_t>(),
               *gs_out = grad_grad_output.data<data_t>();
        if (ggxs) {
          convolve_depthwise<data_t>(ggxs, ks, gs_out, images, channels, g, num_threads);
          backward_depthwise<data_t>(ggxs, ks, gs, nullptr, ks_out, images, channels, g, num_threads);
        }
        if (ggws) {
          std::vector<data_t> more(grad_grad_output.numel());
          convolve_depthwise<data_t>(xs, ggws, more.data(), images, channels, g, num_threads);
          std::transform(more.begin(), more.end(), gs_out, gs_out, std::plus<data_t>());
          if (x_gradient)
            backward_depthwise<data_t>(xs, ggws, gs, xs_out, nullptr, images, channels, g, num_threads);
        }
      }));
  return {grad_x, grad_weight, grad_grad_output};
}

PD_BUILD_OP(depthwise_fused)
    .Inputs({"X", "Kernels"})
    .Outputs({"Out"})
    .Attrs({"stride: std::vector<int>", "padding: std::vector<int>", "x_gradient: bool"})
    .SetKernelFn(PD_KERNEL(depthwise_forward))
    .SetInferShapeFn(PD_INFER_SHAPE(conv_shapes))
    .SetInferDtypeFn(PD_INFER_DTYPE(conv_dtypes));

PD_BUILD_GRAD_OP(depthwise_fused)
    .Inputs({"X", "Kernels", paddle::Grad("Out")})
    .Outputs({paddle::Grad("X"), paddle::Grad("Kernels")})
    .Attrs({"stride: std::vector<int>", "padding: std::vector<int>", "x_gradient: bool"})
    .SetKernelFn(PD_KERNEL(depthwise_backward));

PD_BUILD_DOUBLE_GRAD_OP(depthwise_fused)
    .Inputs({"X", "Kernels", paddle::Grad("Out"), paddle::Grad(paddle::Grad("X")),
             paddle::Grad(paddle::Grad("Kernels"))})
    .Outputs({second_of("X"), second_of("Kernels"), paddle::Grad(paddle::Grad("Out"))})
    .Attrs({"stride: std::vector<int>", "padding: std::vector<int>", "x_gradient: bool"})
    .SetKernelFn(PD_KERNEL(depthwise_backward_again));
