// Double backward as Paddle calls it (second.h computes it). Part of simam_ops.cc.

#pragma once

#include <algorithm>
#include <functional>

#include "second.h"

// Each operator returns a gradient for every input of backward, zeros for those that are computed from x: Paddle waits
// for a missing one, and drops the others.

// Null for a gradient that Paddle did not compute.
template <typename T>
const T* numbers(const paddle::Tensor& x) {
  return x.initialized() ? x.data<T>() : nullptr;
}

// Double backward of SimAM: gradients of x, of its bias (`grad_bias` null: there is none) and of grad_output.
void simam_second_of(const paddle::Tensor& x, const paddle::Tensor* bias, const paddle::Tensor& g,
                     const paddle::Tensor& ggx, const paddle::Tensor* ggbias, const std::string& e_lambda, bool relu,
                     paddle::Tensor& grad_x, paddle::Tensor* grad_bias, paddle::Tensor& grad_grad_output) {
  const std::int64_t planes = x.shape()[0] * x.shape()[1], channels = x.shape()[1], size = plane_size(x);
  PD_DISPATCH_FLOATING_TYPES(
      x.dtype(), "simam_second", ([&] {
        const data_t* biases = bias ? bias->data<data_t>() : nullptr;
        const data_t* ggbiases = ggbias ? numbers<data_t>(*ggbias) : nullptr;
        const data_t *xs = x.data<data_t>(), *gs = g.data<data_t>(), *ggxs = numbers<data_t>(ggx);
        data_t *xs_out = grad_x.data<data_t>(), *gs_out = grad_grad_output.data<data_t>();
        const std::vector<data_t> nothing(ggxs ? 0 : x.numel());
        std::vector<data_t> per_plane(planes);
        simam_second<data_t>({xs, gs, ggxs ? ggxs : nothing.data()}, biases, ggbiases,
                             static_cast<data_t>(std::stod(e_lambda)), relu, Planes{planes, channels, size}, xs_out,
                             gs_out, per_plane.data(), num_threads);
        if (grad_bias) sum_channels<data_t>(per_plane, grad_bias->data<data_t>(), channels);
      }));
}

std::vector<paddle::Tensor> simam_backward_again(const paddle::Tensor& x, const paddle::Tensor& mean,
                                                 const paddle::Tensor& g, const paddle::Tensor& ggx,
                                                 const std::string& e_lambda, bool relu) {
  auto grad_x = paddle::empty_like(x), grad_grad_output = paddle::empty_like(g);
  simam_second_of(x, nullptr, g, ggx, nullptr, e_lambda, relu, grad_x, nullptr, grad_grad_output);
  return {grad_x, zeros_as(mean), zeros_as(mean), grad_grad_output};
}

std::vector<paddle::Tensor> simam_bias_backward_again(const paddle::Tensor& x, const paddle::Tensor& bias,
                                                      const paddle::Tensor& mean, const paddle::Tensor& g,
                                                      const paddle::Tensor& ggx, const paddle::Tensor& ggbias,
                                                      const std::string& e_lambda, bool relu) {
  auto grad_x = paddle::empty_like(x), grad_bias = paddle::empty_like(bias), grad_grad_output = paddle::empty_like(g);
  simam_second_of(x, &bias, g, ggx, &ggbias, e_lambda, relu, grad_x, &grad_bias, grad_grad_output);
  return {grad_x, grad_bias, zeros_as(mean), zeros_as(mean), grad_grad_output};
}

paddle::Tensor bias_second_of(const paddle::Tensor* y, const paddle::Tensor& g, const paddle::Tensor& ggx,
                              const paddle::Tensor& ggbias) {
  auto grad_grad_output = paddle::empty_like(g);
  PD_DISPATCH_FLOATING_TYPES(g.dtype(), "bias_second", ([&] {
                               bias_second<data_t>(y ? y->data<data_t>() : nullptr, numbers<data_t>(ggx),
                                                   numbers<data_t>(ggbias), grad_grad_output.data<data_t>(),
                                                   g.shape()[0] * g.shape()[1], g.shape()[1], plane_size(g));
                             }));
  return grad_grad_output;
}

std::vector<paddle::Tensor> bias_backward_again(const paddle::Tensor& bias, const paddle::Tensor& g,
                                                const paddle::Tensor& ggx, const paddle::Tensor& ggbias) {
  return {zeros_as(bias), bias_second_of(nullptr, g, ggx, ggbias)};
}

std::vector<paddle::Tensor> bias_relu_backward_again(const paddle::Tensor& bias, const paddle::Tensor& y,
                                                     const paddle::Tensor& g, const paddle::Tensor& ggx,
                                                     const paddle::Tensor& ggbias) {
  return {zeros_as(bias), zeros_as(y), bias_second_of(&y, g, ggx, ggbias)};
}

// A convolution is linear in x and in its weight: its double backward is made of the same three convolutions.
std::vector<paddle::Tensor> conv_backward_again(const paddle::Tensor& x, const paddle::Tensor& weight,
                                                const paddle::Tensor& grad_output, const paddle::Tensor& ggx,
                                                const paddle::Tensor& ggw, const std::vector<int>& stride,
                                                const std::vector<int>& padding, bool x_gradient) {
  const Geometry g = geometry(x.shape(), weight.shape(), stride, padding);
  auto grad_x = paddle::empty(x_gradient ? x.shape() : Shape{1}, x.dtype(), x.place());
  auto grad_weight = paddle::empty(weight.shape(), x.dtype(), x.place());
  auto grad_grad_output = paddle::empty(grad_output.shape(), x.dtype(), x.place());
  PD_DISPATCH_FLOATING_TYPES(
      x.dtype(), "conv_backward_again", ([&] {
        const std::int64_t images = x.shape()[0];
        const data_t *xs = x.data<data_t>(), *ks = weight.data<data_t>(), *gs = grad_output.data<data_t>();
        const data_t *ggxs = x_gradient ? numbers<data_t>(ggx) : nullptr, *ggws = numbers<data_t>(ggw);
        data_t *xs_out = grad_x.data<data_t>(), *ks_out = grad_weight.data<data_t>(),
               *gs_out = grad_grad_output.data<data_t>();
        std::fill_n(xs_out, grad_x.numel(), data_t(0));
        std::fill_n(ks_out, grad_weight.numel(), data_t(0));
        std::fill_n(gs_out, grad_grad_output.numel(), data_t(0));
        if (ggxs) {
          convolve<data_t>(ggxs, ks, gs_out, images, g, num_threads);
          backward_weight<data_t>(ggxs, gs, ks_out, images, g, num_threads);
        }
        if (ggws) {
          std::vector<data_t> more(grad_grad_output.numel());
          convolve<data_t>(xs, ggws, more.data(), images, g, num_threads);
          std::transform(more.begin(), more.end(), gs_out, gs_out, std::plus<data_t>());
          if (x_gradient) backward_input<data_t>(gs, ggws, xs_out, images, g, num_threads);
        }
      }));
  return {grad_x, grad_weight, grad_grad_output};
}

std::vector<paddle::Tensor> pool_backward_again(const paddle::Tensor& taps, const paddle::Tensor& grad_output,
                                                const paddle::Tensor& ggx, const std::vector<int>& size,
                                                const std::vector<int>& kernel, const std::vector<int>& stride,
                                                const std::vector<int>& padding) {
  auto grad_grad_output = paddle::empty_like(grad_output);
  PD_DISPATCH_FLOATING_TYPES(grad_output.dtype(), "pool_backward_again", ([&] {
                               max_pool_second<data_t>(
                                   taps.data<Tap>(), ggx.data<data_t>(), grad_grad_output.data<data_t>(),
                                   taps.shape()[0] * taps.shape()[1], window(size, kernel, stride, padding));
                             }));
  return {zeros_as(taps), grad_grad_output};
}
