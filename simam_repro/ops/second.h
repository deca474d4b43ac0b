// Double backward, for gradient penalties, with PyTorch's names: ggx is the gradient with respect to grad_input, and so
// on. Simple loops: only forward and backward have to be fast.

#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include "convolution.h"
#include "pooling.h"

namespace {

// One plane of SimAM, in the names of planes.h. ggx is the gradient with respect to grad_input, ggb that with respect
// to grad_bias. With X_dot the derivative of X along (ggx, ggb), the loss of the first backward is sum(g y_dot), where
//   d_dot = ggx - mean(ggx),  v_dot = 2 sum(d d_dot) / n,  c_dot = -4 c^2 v_dot,
//   z_dot = 2 c d d_dot + c_dot d^2,  y_dot = ggx s + (x + b) s' z_dot.
// grad_grad_output is y_dot; grad_x is found by reverse mode through these, of_X being the adjoint of X. The parts of
// x + b and ggx + ggb are returned, too: neither b nor ggb changes d or d_dot.
template <typename T>
void simam_second_plane(const T* x, T b, const T* g, const T* ggx, T ggb, T e_lambda, bool relu, std::int64_t size,
                        T* grad_x, T* grad_grad_output) {
  const T n = std::max<std::int64_t>(size - 1, 1), count = size;
  T mean_x = 0, mean_ggx = 0, squares = 0, products = 0;
  for (std::int64_t i = 0; i < size; ++i) mean_x += x[i] / count, mean_ggx += ggx[i] / count;
  for (std::int64_t i = 0; i < size; ++i) {
    squares += (x[i] - mean_x) * (x[i] - mean_x);
    products += (x[i] - mean_x) * (ggx[i] - mean_ggx);
  }
  const T c = 1 / (4 * (squares / n + e_lambda)), v_dot = 2 * products / n, c_dot = -4 * c * c * v_dot;
  std::vector<T> of_z(size), of_z_dot(size), of_d(size);
  T of_c = 0, of_c_dot = 0;
  for (std::int64_t i = 0; i < size; ++i) {
    const T d = x[i] - mean_x, d_dot = ggx[i] - mean_ggx, value = x[i] + b, along = ggx[i] + ggb;
    const T z_dot = 2 * c * d * d_dot + c_dot * d * d, s = 1 / (1 + std::exp(-c * d * d - T(0.5)));
    const T s1 = s * (1 - s), s2 = s1 * (1 - 2 * s);
    const bool open = !relu || value > 0;
    const T grad = open ? g[i] : T(0);
    grad_grad_output[i] = open ? along * s + value * s1 * z_dot : T(0);
    grad_x[i] = grad * s1 * z_dot;
    of_z[i] = grad * (along * s1 + value * s2 * z_dot);
    of_z_dot[i] = grad * value * s1;
    of_c += of_z[i] * d * d + 2 * of_z_dot[i] * d * d_dot;
    of_c_dot += of_z_dot[i] * d * d;
  }
  of_c -= 8 * c * v_dot * of_c_dot;
  const T of_v = -4 * c * c * of_c, of_v_dot = -4 * c * c * of_c_dot;
  T mean_of_d = 0;
  for (std::int64_t i = 0; i < size; ++i) {
    const T d = x[i] - mean_x, d_dot = ggx[i] - mean_ggx;
    of_d[i] = 2 * (of_z[i] * c * d + of_z_dot[i] * (c * d_dot + c_dot * d) + (of_v_dot * d_dot + of_v * d) / n);
    mean_of_d += of_d[i] / count;
  }
  for (std::int64_t i = 0; i < size; ++i) grad_x[i] += of_d[i] - mean_of_d;
}

struct Planes {
  std::int64_t count, channels, size;
};

// All planes; inputs: x, g and ggx. per_plane: what each adds to the gradient of its bias. biases, ggbiases: or null.
template <typename T>
void simam_second(std::array<const T*, 3> inputs, const T* biases, const T* ggbiases, T e_lambda, bool relu,
                  Planes planes, T* grad_x, T* grad_grad_output, T* per_plane, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
  for (std::int64_t p = 0; p < planes.count; ++p) {
    const std::int64_t at = p * planes.size, channel = p % planes.channels;
    simam_second_plane<T>(inputs[0] + at, biases ? biases[channel] : 0, inputs[1] + at, inputs[2] + at,
                          ggbiases ? ggbiases[channel] : 0, e_lambda, relu, planes.size, grad_x + at,
                          grad_grad_output + at);
    for (std::int64_t i = at; i < at + planes.size; ++i) per_plane[p] += grad_x[i];
  }
}

// grad_grad_output: ggx + ggb where the ReLU let g pass. y: the output of the ReLU, or null without one.
template <typename T>
void bias_second(const T* y, const T* ggx, const T* ggb, T* grad_grad_output, std::int64_t planes,
                 std::int64_t channels, std::int64_t size) {
  for (std::int64_t p = 0; p < planes; ++p)
    for (std::int64_t i = p * size; i < (p + 1) * size; ++i)
      grad_grad_output[i] = !y || y[i] > 0 ? (ggx ? ggx[i] : T(0)) + (ggb ? ggb[p % channels] : T(0)) : T(0);
}

// grad_grad_output: ggx gathered at each window's argmax.
template <typename T>
void max_pool_second(const Tap* taps, const T* ggx, T* grad_grad_output, std::int64_t planes, const Geometry& g) {
  const std::int64_t size = g.height * g.width, out_h = g.out_h(), out_w = g.out_w();
  for (std::int64_t at = 0; at < planes * out_h * out_w; ++at) {
    const std::int64_t p = at / (out_h * out_w), row = at / out_w % out_h, column = at % out_w;
    const std::int64_t h = row * g.stride_h - g.pad_h + taps[at] / g.kernel_w;
    const std::int64_t w = column * g.stride_w - g.pad_w + taps[at] % g.kernel_w;
    const bool inside = 0 <= h && h < g.height && 0 <= w && w < g.width;
    grad_grad_output[at] = inside ? ggx[p * size + h * g.width + w] : T(0);
  }
}

}  // namespace
