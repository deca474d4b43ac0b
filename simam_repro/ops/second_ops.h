// Gradients of gradients as Paddle calls them (second.h computes them). Part of simam_ops.cc.

#pragma once

#include <algorithm>
#include <functional>

#include "second.h"

// Each operator returns a gradient for all that its first gradient is made from, zeros for what is made from x: Paddle
// waits for those that are not there, and forgets the others.

paddle::Tensor zeros_as(const paddle::Tensor& x) { return paddle::zeros(x.shape(), x.dtype(), x.place()); }

// What a gradient's gradient is where nobody has asked for it: nothing.
template <typename T>
const T* numbers(const paddle::Tensor& x) {
  return x.initialized() ? x.data<T>() : nullptr;
}

// With respect to x, its bias (`of_bias` null: there is none) and g; r and r_bias are those of the two gradients.
void simam_second_of(const paddle::Tensor& x, const paddle::Tensor* bias, const paddle::Tensor& g,
                  const paddle::Tensor& r, const paddle::Tensor* r_bias, const std::string& e_lambda, bool relu,
                  paddle::Tensor& of_x, paddle::Tensor* of_bias, paddle::Tensor& of_g) {
  const std::int64_t planes = x.shape()[0] * x.shape()[1], channels = x.shape()[1], size = plane_size(x);
  PD_DISPATCH_FLOATING_TYPES(x.dtype(), "simam_second", ([&] {
    const data_t *biases = bias ? bias->data<data_t>() : nullptr;
    const data_t *r_biases = r_bias ? numbers<data_t>(*r_bias) : nullptr;
    const data_t *xs = x.data<data_t>(), *gs = g.data<data_t>(), *rs = numbers<data_t>(r);
    data_t *xs_out = of_x.data<data_t>(), *gs_out = of_g.data<data_t>();
    const std::vector<data_t> nothing(rs ? 0 : x.numel());
    std::vector<data_t> of_planes(planes);
    simam_second<data_t>({xs, gs, rs ? rs : nothing.data()}, biases, r_biases, static_cast<data_t>(std::stod(e_lambda)),
                         relu, Planes{planes, channels, size}, xs_out, gs_out, of_planes.data(), num_threads);
    if (of_bias) sum_channels<data_t>(of_planes, of_bias->data<data_t>(), channels);
  }));
}

std::vector<paddle::Tensor> simam_backward_again(const paddle::Tensor& x, const paddle::Tensor& mean,
                                                 const paddle::Tensor& g, const paddle::Tensor& r, const std::string& e_lambda, bool relu) {
  auto of_x = paddle::empty_like(x), of_g = paddle::empty_like(g);
  simam_second_of(x, nullptr, g, r, nullptr, e_lambda, relu, of_x, nullptr, of_g);
  return {of_x, zeros_as(mean), zeros_as(mean), of_g};
}

std::vector<paddle::Tensor> simam_bias_backward_again(const paddle::Tensor& x, const paddle::Tensor& bias,
                                                      const paddle::Tensor& mean, const paddle::Tensor& g, const paddle::Tensor& r,
                                                      const paddle::Tensor& r_bias, const std::string& e_lambda,
                                                      bool relu) {
  auto of_x = paddle::empty_like(x), of_bias = paddle::empty_like(bias), of_g = paddle::empty_like(g);
  simam_second_of(x, &bias, g, r, &r_bias, e_lambda, relu, of_x, &of_bias, of_g);
  return {of_x, of_bias, zeros_as(mean), zeros_as(mean), of_g};
}

paddle::Tensor bias_second_of(const paddle::Tensor* y, const paddle::Tensor& g, const paddle::Tensor& r,
                                           const paddle::Tensor& r_bias) {
  auto of_g = paddle::empty_like(g);
  PD_DISPATCH_FLOATING_TYPES(g.dtype(), "bias_second", ([&] {
                               bias_second<data_t>(y ? y->data<data_t>() : nullptr, numbers<data_t>(r),
                                                   numbers<data_t>(r_bias), of_g.data<data_t>(),
                                                   g.shape()[0] * g.shape()[1], g.shape()[1], plane_size(g));
                             }));
  return of_g;
}

std::vector<paddle::Tensor> bias_backward_again(const paddle::Tensor& bias, const paddle::Tensor& g, const paddle::Tensor& r,
                                                const paddle::Tensor& r_bias) {
  return {zeros_as(bias), bias_second_of(nullptr, g, r, r_bias)};
}

std::vector<paddle::Tensor> bias_relu_backward_again(const paddle::Tensor& bias, const paddle::Tensor& y, const paddle::Tensor& g,
                                                     const paddle::Tensor& r, const paddle::Tensor& r_bias) {
  return {zeros_as(bias), zeros_as(y), bias_second_of(&y, g, r, r_bias)};
}

// A convolution is linear in x and in its kernels: what its gradients need again are convolutions of the three.
std::vector<paddle::Tensor> conv_backward_again(const paddle::Tensor& x, const paddle::Tensor& kernels,
                                                const paddle::Tensor& g_y, const paddle::Tensor& r_x,
                                                const paddle::Tensor& r_kernels, const std::vector<int>& stride,
                                                const std::vector<int>& padding, bool x_gradient) {
  const Geometry g = geometry(x.shape(), kernels.shape(), stride, padding);
  auto of_x = paddle::empty(x_gradient ? x.shape() : Shape{1}, x.dtype(), x.place());
  auto of_kernels = paddle::empty(kernels.shape(), x.dtype(), x.place());
  auto of_g = paddle::empty(g_y.shape(), x.dtype(), x.place());
  PD_DISPATCH_FLOATING_TYPES(x.dtype(), "conv_backward_again", ([&] {
    const std::int64_t images = x.shape()[0];
    const data_t *xs = x.data<data_t>(), *ks = kernels.data<data_t>(), *gs = g_y.data<data_t>();
    const data_t *r_xs = x_gradient ? numbers<data_t>(r_x) : nullptr, *r_ks = numbers<data_t>(r_kernels);
    data_t *xs_out = of_x.data<data_t>(), *ks_out = of_kernels.data<data_t>(), *gs_out = of_g.data<data_t>();
    std::fill_n(xs_out, of_x.numel(), data_t(0));
    std::fill_n(ks_out, of_kernels.numel(), data_t(0));
    std::fill_n(gs_out, of_g.numel(), data_t(0));
    if (r_xs) {
      convolve<data_t>(r_xs, ks, gs_out, images, g, num_threads);
      kernel_gradient<data_t>(r_xs, gs, ks_out, images, g, num_threads);
    }
    if (r_ks) {
      std::vector<data_t> more(of_g.numel());
      convolve<data_t>(xs, r_ks, more.data(), images, g, num_threads);
      std::transform(more.begin(), more.end(), gs_out, gs_out, std::plus<data_t>());
      if (x_gradient) input_gradient<data_t>(gs, r_ks, xs_out, images, g, num_threads);
    }
  }));
  return {of_x, of_kernels, of_g};
}

std::vector<paddle::Tensor> pool_backward_again(const paddle::Tensor& taps, const paddle::Tensor& g_y,
                                                const paddle::Tensor& r, const std::vector<int>& size,
                                                const std::vector<int>& kernel, const std::vector<int>& stride,
                                                const std::vector<int>& padding) {
  auto of_g = paddle::empty_like(g_y);
  PD_DISPATCH_FLOATING_TYPES(g_y.dtype(), "pool_backward_again", ([&] {
                               max_pool_second<data_t>(taps.data<Tap>(), r.data<data_t>(), of_g.data<data_t>(),
                                                       taps.shape()[0] * taps.shape()[1],
                                                       window(size, kernel, stride, padding));
                             }));
  return {zeros_as(taps), of_g};
}
